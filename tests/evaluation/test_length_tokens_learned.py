"""What a value model has learned in seconds shows up on the right side: re-checks lengthen, the answer shortens."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from lenvm.backbones import RandomBackbone
from lenvm.data.rollout import Rollout
from lenvm.data.tokenizer import fingerprint
from lenvm.data.writing import write_rollouts
from lenvm.evaluation.length_tokens import length_tokens
from lenvm.heads import MLPHead
from lenvm.models import LengthValueModel
from lenvm.playground.corpus import draw_problems
from lenvm.playground.domains import write_solution
from lenvm.targets import DiscountedReturn

STEPS, BATCH = 150, 32


def solutions(tokenizer: PreTrainedTokenizerBase, count: int, *, held_out: bool) -> list[Rollout]:
    rng, rollouts = Random(0), []
    for problem in islice(draw_problems(seed=0, held_out=held_out), count):
        prompt, completion = (
            tokenizer(text, add_special_tokens=False).input_ids
            for text in (f"<|user|>{problem.prompt}<|assistant|>", write_solution(problem, rng))
        )
        rollouts.append(
            Rollout(prompt_ids=prompt, completion_ids=[*completion, tokenizer.eos_token_id], prompt_id=problem.prompt)
        )
    return rollouts


def trained(tokenizer: PreTrainedTokenizerBase) -> LengthValueModel:
    config = {
        "model_type": "qwen2",
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
    }
    target = DiscountedReturn(gamma=0.975)
    model = LengthValueModel(RandomBackbone(config), MLPHead(48), target, tokenizer_fingerprint=fingerprint(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rollouts = solutions(tokenizer, STEPS * BATCH, held_out=False)
    for step in range(STEPS):
        batch = rollouts[step * BATCH : (step + 1) * BATCH]
        rows, labels = [], []
        for rollout in batch:
            prompt, completion = rollout.prompt_ids or [], rollout.completion_ids or []
            rows.append(torch.tensor(prompt + completion))
            remaining = torch.arange(len(prompt) + len(completion) - 1, -1, -1.0)
            remaining[: len(prompt) - 1] = -1
            labels.append(remaining)
        remaining = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-1)
        here = remaining > 0
        predicted = target.predict(model(nn.utils.rnn.pad_sequence(rows, batch_first=True))[here])
        loss = (predicted - target.encode(remaining[here])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.slow
def test_rechecks_lengthen_and_the_answer_marker_shortens(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    model = trained(tokenizer).save_pretrained(tmp_path / "model", tokenizer)
    held_out = write_rollouts(solutions(tokenizer, 400, held_out=True), tmp_path / "rollouts.parquet")
    length_tokens(str(model), tmp_path / "out", rollouts=held_out)
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    longer, shorter = ({row["token"]: row for row in found[side]} for side in ("longer", "shorter"))
    assert {"_Wait", "_Hmm"} <= set(longer)
    assert {"_Answer"} <= set(shorter)
    # an answer that is given at once, and the first word of the long manner
    assert shorter["Answer"]["mean"] < shorter["_Answer"]["mean"]
    assert longer["_Wait"]["mean"] > 0.05

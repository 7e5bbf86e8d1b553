"""Plain writing beside transformers' `generate`."""

from __future__ import annotations

import torch
from task import OPENINGS, STORIES, Task, seconds
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lenvm.data.tokenizer import load_tokenizer
from lenvm.decoding.generator import eos_ids, load_generator
from lenvm.decoding.loop import Row, Written
from lenvm.decoding.prefix import left_padded
from lenvm.decoding.settings import SamplingSettings
from lenvm.playground import POLICY_FOLDER


def sampling_vs_generate(count: int) -> dict[str, float]:
    """Speed of plain greedy writing over that of transformers' `generate`; the outputs are compared token by token."""
    folder = STORIES if STORIES.exists() else POLICY_FOLDER
    generator, tokenizer = load_generator(str(folder)), load_tokenizer(str(folder))
    task = _greedy_task(generator, tokenizer, count)
    device = generator.device
    ours: list[Written] = []
    mine = seconds(lambda: ours.extend(task.write()), device)
    tokens = sum(len(w.ids) for w in ours)
    batch, valid = left_padded([task.prompts[row.prompt] for row in task.rows])
    batch, mask, width = batch.to(device), valid.long().to(device), batch.shape[1]
    options = {"do_sample": False, "max_new_tokens": task.rows[0].room, "pad_token_id": 0}
    theirs: list[list[int]] = []
    together = seconds(
        lambda: theirs.extend(generator.generate(batch, attention_mask=mask, **options)[:, width:].tolist()), device
    )
    same = all(w.ids == ids[: len(w.ids)] for w, ids in zip(ours, theirs, strict=True))
    few = range(0, count, max(count // 8, 1))

    def alone() -> None:
        for i in few:
            prompt = torch.tensor([task.prompts[task.rows[i].prompt]], device=device)
            generator.generate(prompt, attention_mask=torch.ones_like(prompt), **options)

    one = seconds(alone, device) / sum(len(ours[i].ids) for i in few)
    return {
        "tokens_per_second": tokens / mine,
        "prompt_by_prompt": one / (mine / tokens),
        "same_batch": together / mine,
        "identical": same,
    }


def _greedy_task(generator: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int) -> Task:
    """Different prompts: openings, continued by a few sampled tokens."""
    openings = [tokenizer(text).input_ids for text in OPENINGS]
    rows = [Row(i % len(openings), f"opening/{i}", 4 + i % 13) for i in range(count)]
    eos = eos_ids(generator, tokenizer)
    begun = Task(generator, openings, rows, eos, SamplingSettings(top_k=50)).write()
    prompts = [openings[row.prompt] + [t for t in w.ids if t not in eos] for row, w in zip(rows, begun, strict=True)]
    whole = [Row(i, f"greedy/{i}", 400) for i in range(count)]
    return Task(generator, prompts, whole, eos, SamplingSettings(temperature=0))

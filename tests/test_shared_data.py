"""Real data and a real model that lie beside the project; skipped where they do not."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from lenvm.backbones import PretrainedBackbone
from lenvm.data import RolloutDataModule
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Rollout, parse_rollout
from lenvm.data.tokenizer import load_tokenizer
from lenvm.rollout import SamplingRequest, SamplingSettings, TransformersSampler, load_generator

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data (../shared/data) is not on this machine")


def test_recorded_lengths_of_real_completions_come_out_with_eos_counted(tmp_path: Path) -> None:
    with gzip.open(SHARED / "castillo" / "qwen2.5-7b-instruct-1m.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = list(islice(file, 200))
    some = tmp_path / "some.jsonl"
    some.write_text("".join(lines), encoding="utf-8")
    data = RolloutDataModule(
        train=str(some), tokenizer=str(SHARED / "qwen2.5-tokenizer"), val_fraction=0.2, cache_dir=tmp_path / "cache"
    )
    data.setup("fit")
    recorded = {}
    for line in lines:
        rollout = parse_rollout(json.loads(line))
        recorded.setdefault(rollout.prompt_id, set()).update((rollout.metadata or {})["lengths_of_ten"])
    exact = [
        int(length) in recorded[split.prompt_ids[prompt]]
        for split in data.datasets.values()
        for length, prompt in zip(split.length, split.prompt, strict=True)
    ]
    assert len(exact) == 200
    assert sum(exact) >= 0.97 * len(exact)  # text that is tokenised again may differ by a token


def test_a_pretrained_model_is_sampled_and_read_without_its_language_model_head() -> None:
    folder = str(SHARED / "stories260K")
    tokenizer = load_tokenizer(folder)
    encoder = RolloutEncoder(tokenizer, "plain")
    request = SamplingRequest(encoder.encode_prompts(["Once upon a time"])[0], Rollout(prompt="x", prompt_id="x"))
    sampler = TransformersSampler(load_generator(folder), tokenizer, SamplingSettings(max_tokens=40))
    stories = list(sampler.sample([request._replace(samples=(0, 1, 2))]))
    assert {len(s.completion_ids or []) <= 40 for s in stories} == {True}
    backbone = PretrainedBackbone(folder)
    hidden = backbone(torch.tensor([request.prompt_ids]))
    assert hidden.shape == (1, len(request.prompt_ids), 64)
    assert not any("lm_head" in name for name, _ in backbone.named_parameters())

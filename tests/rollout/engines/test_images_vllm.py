"""Prompts with images through vLLM, offline and as a server: the same pictures get the same greedy words."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("vllm")

from PIL import Image
from tiny_vision_model import save_tiny_vision_model
from vllm_server import vllm_server

from lenvm.data.rollout import Rollout
from lenvm.rollout import SamplingRequest, SamplingSettings
from lenvm.rollout.engines import AbstractEngine, OpenAIEngine, Policy, VLLMEngine, strictly

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]


def test_images_reach_the_model_by_both_ways(tmp_path: Path) -> None:
    model = tmp_path / "model"
    save_tiny_vision_model(model)
    requests = []
    for name, color in (("red", "red"), ("blue", "blue"), ("red_again", "red")):
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (50, 30), color).save(path)
        prompt = [{"role": "user", "content": "What is it?"}]
        requests.append(SamplingRequest(None, Rollout(prompt=prompt, prompt_id=name, images=[str(path)])))
    sampling = SamplingSettings(max_tokens=8, temperature=0)
    policy = Policy(generator=str(model), revision=None, tokenizer=None, sampling=sampling)

    def said(engine: AbstractEngine) -> dict[str, list[int]]:
        return {row.prompt_id: row.completion_ids or [] for row in strictly(engine.sample(policy, iter(requests)))}

    offline = said(VLLMEngine(dtype="float32", gpu_memory=0.15, max_model_len=256))
    assert offline["red"] == offline["red_again"] != offline["blue"]
    with vllm_server(model, max_model_len=256) as url:
        assert said(OpenAIEngine(urls=[url])) == offline

"""What is required of the shipped language model, on held-out prompts at temperature 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Rollout
from lenvm.data.tokenizer import load_tokenizer
from lenvm.demo.held_out import policy_figures
from lenvm.playground import MAX_TOKENS, POLICY_FOLDER, as_prompt
from lenvm.playground.corpus import draw_distinct_problems
from lenvm.rollout import SamplingSettings, TransformersSampler, load_generator, sampling_requests, strictly


@pytest.fixture(scope="module")
def rollouts() -> list[Rollout]:
    tokenizer = load_tokenizer(str(POLICY_FOLDER))
    sampler = TransformersSampler(
        load_generator(str(POLICY_FOLDER)), tokenizer, SamplingSettings(max_tokens=MAX_TOKENS, seed=7)
    )
    problems = draw_distinct_problems(120, seed=7, held_out=True)
    requests = sampling_requests([as_prompt(p) for p in problems], RolloutEncoder(tokenizer), range(12))
    return list(strictly(sampler.sample(requests)))


def test_the_policy_is_accurate_ends_by_itself_and_varies(rollouts: list[Rollout]) -> None:
    figures = policy_figures(rollouts)
    assert figures["per_domain"]["math"]["accuracy"] >= 0.90
    assert figures["eos_rate"] >= 0.995
    assert figures["length_cv"] >= 0.3


def test_most_prompts_have_a_correct_answer_much_shorter_than_their_mean(rollouts: list[Rollout]) -> None:
    from lenvm.playground import is_correct

    by_prompt: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        by_prompt.setdefault(rollout.prompt_id, []).append(rollout)
    shorter = 0
    for group in by_prompt.values():
        mean = sum(len(r.completion_ids or []) for r in group) / len(group)
        shorter += any(is_correct(r) and len(r.completion_ids or []) < 0.6 * mean for r in group)
    assert shorter > 0.6 * len(by_prompt)


def test_the_weights_are_under_four_megabytes() -> None:
    assert sum(p.stat().st_size for p in Path(POLICY_FOLDER).glob("*.safetensors")) < 4_000_000

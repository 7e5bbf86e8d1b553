"""A small language model of our own, with three procedural domains: everything can be tried without a GPU or a hub."""

from __future__ import annotations

from pathlib import Path

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Rollout, prompt_hash
from lenvm.playground.domains import DOMAINS, Problem
from lenvm.rollout.transformers import SamplingRequest

POLICY_FOLDER = Path(__file__).parent / "policy"
MAX_TOKENS = 320
"""Token limit that at least 99.5 % of the policy's completions end within."""


def sampling_requests(problems: list[Problem], encoder: RolloutEncoder) -> list[SamplingRequest]:
    """The problems as requests to the policy: chat messages, token ids, domain and gold answer."""
    prompts = [[{"role": "user", "content": problem.prompt}] for problem in problems]
    return [
        SamplingRequest(
            ids,
            Rollout(prompt=prompt, prompt_id=prompt_hash(prompt), domain=problem.domain, reference=problem.reference),
        )
        for problem, prompt, ids in zip(problems, prompts, encoder.encode_prompts(prompts), strict=True)
    ]


def is_correct(rollout: Rollout) -> bool:
    """Whether a playground completion ended by itself with the right answer."""
    return rollout.finish_reason == "stop" and DOMAINS[rollout.domain or ""].grade(
        rollout.completion or "", rollout.reference or ""
    )

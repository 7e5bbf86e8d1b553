"""A small language model of our own, with three procedural domains: everything can be tried without a GPU or a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lenvm.data.rollout import Rollout, prompt_hash
from lenvm.playground.domains import DOMAINS, Problem

POLICY_FOLDER = Path(__file__).parent / "policy"
MAX_TOKENS = 320
"""Token limit that at least 99.5 % of the policy's completions end within."""


def as_prompt(problem: Problem) -> Rollout:
    """A problem as a prompt for the policy: chat messages, domain and gold answer."""
    prompt: list[dict[str, Any]] = [{"role": "user", "content": problem.prompt}]
    return Rollout(prompt=prompt, prompt_id=prompt_hash(prompt), domain=problem.domain, reference=problem.reference)


def is_correct(rollout: Rollout) -> bool:
    """Whether a playground completion ended by itself with the right answer."""
    return rollout.finish_reason == "stop" and DOMAINS[rollout.domain or ""].grade(
        rollout.completion or "", rollout.reference or ""
    )

"""Endless procedural text: problems of every domain with a written solution; training and held-out prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random

from lenvm.playground.domains import DOMAINS, Problem, write_solution

_HELD_OUT_SHARE = 0.1


def is_held_out(prompt: str) -> bool:
    """Whether a prompt belongs to the tenth that nothing in the playground is ever trained on.

    The split depends on the prompt's text alone, so it is the same in every run and for every seed.
    """
    return hashlib.sha256(prompt.encode()).digest()[0] < _HELD_OUT_SHARE * 256


def draw_problems(*, seed: int, held_out: bool, domains: tuple[str, ...] = tuple(DOMAINS)) -> Iterator[Problem]:
    """Yields problems without end, the domains in turn; a prompt may come again.

    Args:
        seed: equal seeds give equal problems.
        held_out: whether to draw from the held-out prompts or from the training prompts.
        domains: which domains to draw from.
    """
    rng = Random(f"{seed}/{held_out}")
    while True:
        for name in domains:
            problem = DOMAINS[name].problem(rng)
            while is_held_out(problem.prompt) is not held_out:
                problem = DOMAINS[name].problem(rng)
            yield problem


def draw_distinct_problems(
    count: int, *, seed: int, held_out: bool, domains: tuple[str, ...] = tuple(DOMAINS)
) -> list[Problem]:
    """`count` problems with different prompts, in equal shares per domain as far as a domain has that many.

    Raises:
        ValueError: if the domains do not hold `count` different prompts.
    """
    found: dict[str, Problem] = {}
    for draws, problem in enumerate(draw_problems(seed=seed, held_out=held_out, domains=domains)):
        if len(found) == count:
            break
        if draws > 100 * count + 10_000:
            raise ValueError(
                f"expected {count} different prompts, found only {len(found)} in {draws} draws "
                f"(domains {', '.join(domains)}, held_out={held_out}); ask for fewer."
            )
        found.setdefault(problem.prompt, problem)
    return list(found.values())


def draw_texts(*, seed: int) -> Iterator[tuple[str, str]]:
    """Yields (prompt, completion) pairs of training prompts without end; the completion has no end-of-text token."""
    rng = Random(f"{seed}/solutions")
    for problem in draw_problems(seed=seed, held_out=False):
        yield problem.prompt, write_solution(problem, rng)

"""Endless procedural text: problems of every domain with a written solution; training and held-out prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice, zip_longest
from random import Random

from lenvm.errors import InputError
from lenvm.playground.domains import DOMAINS, Problem, write_solution

_HELD_OUT_SHARE = 0.1


def is_held_out(prompt: str) -> bool:
    """Whether a prompt belongs to the tenth that nothing in the playground is ever trained on.

    The split depends on the prompt's text alone, so it is the same in every run and for every seed. It is a split of
    wordings: the same question may be among the training prompts with other words or another length hint.
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
    """`count` problems with different prompts, in equal shares per domain, the domains in turn.

    Raises:
        InputError: if a domain does not hold its share of different prompts.
    """
    shares = [count // len(domains) + (i < count % len(domains)) for i in range(len(domains))]
    drawn = [_distinct(name, share, seed, held_out) for name, share in zip(domains, shares, strict=True)]
    return [problem for turn in zip_longest(*drawn) for problem in turn if problem is not None]


def _distinct(domain: str, count: int, seed: int, held_out: bool) -> list[Problem]:
    found: dict[str, Problem] = {}
    draws = draw_problems(seed=seed, held_out=held_out, domains=(domain,))
    for problem in islice(draws, 200 * count + 10_000):
        if len(found) == count:
            break
        found.setdefault(problem.prompt, problem)
    if len(found) < count:
        raise InputError(f"the {domain} domain has only {len(found)} different prompts of this kind; ask for fewer.")
    return list(found.values())


def draw_texts(*, seed: int) -> Iterator[tuple[str, str]]:
    """Yields (prompt, completion) pairs of training prompts without end; the completion has no end-of-text token."""
    rng = Random(f"{seed}/solutions")
    for problem in draw_problems(seed=seed, held_out=False):
        yield problem.prompt, write_solution(problem, rng)

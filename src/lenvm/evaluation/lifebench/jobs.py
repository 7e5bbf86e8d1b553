"""Every method under every constraint and at every target, and the completions that it wrote there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lenvm.decoding.rules import AtLeast, AtMost, EqualTo
from lenvm.errors import InputError
from lenvm.evaluation.blocks import Block
from lenvm.evaluation.lifebench.items import CONSTRAINTS, Requirement
from lenvm.evaluation.methods import AbstractMethod, ByConstraint, Guided, Plain
from lenvm.evaluation.prompts import TaskPrompts
from lenvm.evaluation.running import Job, run_jobs
from lenvm.evaluation.setup import Setup
from lenvm.metrics import Constraint


class Cell(NamedTuple):
    """The completions of one method that were asked for one length.

    Attributes:
        method: its name.
        constraint: what their length has to be to the target.
        target: the length, in units.
        block: the completions.
    """

    method: str
    constraint: Constraint
    target: int
    block: Block


class _Group(NamedTuple):
    constraint: Constraint
    target: int
    language: str | None
    """None where one number of tokens holds for all languages."""
    prompts: list[int]


def default_methods() -> dict[str, AbstractMethod]:
    """Plain sampling, the published rules (paper section 4.2), and ours."""
    return {
        "plain": Plain(),
        "published rules": ByConstraint(
            equal=Guided(rule=EqualTo(n=1, mode="hard")),
            at_most=Guided(rule=AtMost(n=1, mode="hard")),
            at_least=Guided(rule=AtLeast(n=1, mode="hard")),
        ),
        "our rules": ByConstraint(
            equal=Guided(rule=EqualTo(n=1, mode="smooth")),
            at_most=Guided(rule=AtMost(n=1, mode="minimal")),
            at_least=Guided(rule=AtLeast(n=1, mode="minimal")),
        ),
    }


def run_methods(
    methods: Mapping[str, AbstractMethod],
    setup: Setup,
    prompts: TaskPrompts,
    asked: Sequence[Requirement],
    tokens_per_unit: Mapping[str, float],
    folder: Path,
) -> list[Cell]:
    """The completions of every method under every constraint and at every target.

    A method that looks at no target writes the completions of all requirements once, if the prompts do not say them.

    Args:
        methods: the methods by name.
        setup: what they share.
        prompts: the prompts.
        asked: what each of them asks for.
        tokens_per_unit: how many tokens a word or character has, by language; what turns a target into tokens.
        folder: where blocks are kept.

    Raises:
        InputError: if a method needs a target in tokens, and it is not known.
    """
    groups = _groups(asked)
    wording = {json.dumps([prompts.rollouts[i].prompt for i in group.prompts]) for group in groups}
    jobs: dict[str, Job] = {}
    plan: list[tuple[str, _Group, str]] = []
    for name, method in methods.items():
        for group in groups:
            part = method.under(group.constraint)
            job = _job(name, method, group, len(wording) == 1)
            target = asked[group.prompts[0]].tokens(tokens_per_unit) if part.uses_target else None
            if part.uses_target and target is None:
                raise InputError(
                    f"{name!r} steers tokens, but lengths are asked for in {asked[0].unit}; say how many tokens one "
                    f"has, as `--tokens_per_unit '{{{group.language or 'en'}: 1.3}}'` (a run of `Plain` alone measures "
                    "it: summary.json has `tokens_per_unit`), or leave the method out."
                )
            jobs.setdefault(job, Job(job, part, target, group.prompts, group.constraint))
            plan.append((name, group, job))
    blocks = dict(zip(jobs, run_jobs(list(jobs.values()), setup, prompts.rollouts, "equal", folder), strict=True))
    cells = []
    for name, group, job in plan:
        # one block may serve many groups, whose prompts have other numbers, and the same order
        places = np.unique(blocks[job].prompt, return_inverse=True)[1]
        block = blocks[job]._replace(prompt=np.asarray(group.prompts)[places])
        cells.append(Cell(name, group.constraint, group.target, block))
    return cells


def _job(name: str, method: AbstractMethod, group: _Group, same_prompts: bool) -> str:
    """The name of the job; equal names are one job."""
    part = method.under(group.constraint)
    if same_prompts and not part.uses_target:
        return name if part is method else f"{name}, {group.constraint}"
    language = "" if group.language is None else f", {group.language}"
    return f"{name}, {group.constraint} {group.target}{language}"


def _groups(asked: Sequence[Requirement]) -> list[_Group]:
    """The prompts with one constraint and target, in the order of the paper's table; numbers are ascending."""
    found: dict[tuple[Constraint, int, str | None], list[int]] = {}
    for number, one in enumerate(asked):
        language = None if one.unit == "tokens" else one.language
        found.setdefault((one.constraint, one.target, language), []).append(number)
    order = list(CONSTRAINTS.values())
    keys = sorted(found, key=lambda key: (order.index(key[0]), key[1], key[2] or ""))
    return [_Group(*key, found[key]) for key in keys]

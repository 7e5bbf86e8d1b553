"""What `length_control` measures of completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from lenvm.evaluation.blocks import Block
from lenvm.evaluation.prompts import TaskPrompts
from lenvm.evaluation.quality import Measures, correctness, likelihood_ratio, quality
from lenvm.evaluation.statistics import bootstrap_interval, prompt_means
from lenvm.metrics import Constraint, length_deviation, length_score

Role = Literal["plain", "keeping", "judged"]
_RATIOS: dict[str, Role] = {"nll_ratio": "plain", "nll_ratio_to_keeping": "keeping"}


class Cell(NamedTuple):
    """The completions of one method at one target.

    Attributes:
        method: its name.
        role: `judged`; or what others are compared with: `plain` sampling, or `keeping`, plain completions that meet
            the constraint.
        target: the target in tokens.
        block: the completions.
    """

    method: str
    role: Role
    target: int
    block: Block


def judged(cell: Cell, prompts: TaskPrompts, constraint: Constraint) -> Measures:
    """The figures of one cell.

    `deviation` is the mean of LIFEBench's LD and `absolute_deviation` that of its size; `quality` has the others.
    """
    block = cell.block
    lengths = torch.as_tensor(block.length)
    score = length_score(lengths, cell.target, constraint).numpy()
    deviation = length_deviation(lengths, cell.target).numpy()
    return {
        "length_score": float(score.mean()),
        "length_score_interval": list(bootstrap_interval(prompt_means(score, block.prompt))),
        "absolute_deviation": float(np.abs(deviation).mean()),
        "deviation": float(deviation.mean()),
        **quality(block, correctness(block, prompts)),
    }


def measured(cells: Sequence[Cell], prompts: TaskPrompts, constraint: Constraint) -> dict[int, dict[str, Measures]]:
    """Measures by target and method.

    `nll_ratio` compares the likelihood per token with plain sampling, `nll_ratio_to_keeping` with plain completions
    that meet the constraint: short completions have fewer tokens that are a matter of course, whatever wrote them.
    """
    results: dict[int, dict[str, Measures]] = {}
    for cell in cells:
        results.setdefault(cell.target, {})[cell.method] = judged(cell, prompts, constraint)
    for cell in cells:
        found = results[cell.target][cell.method]
        for name, role in _RATIOS.items():
            reference = next((c for c in cells if c.role == role and c.target == cell.target), None)
            found |= (
                {name: None, f"{name}_interval": None}
                if reference is None
                else likelihood_ratio(name, cell.block, reference.block)
            )
    return results


def named(cells: Sequence[Cell], role: Role) -> str | None:
    """The name of the method in this role; None if there is none."""
    return next((cell.method for cell in cells if cell.role == role), None)

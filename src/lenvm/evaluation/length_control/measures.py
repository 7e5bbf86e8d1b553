"""What `length_control` measures of completions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from lenvm.evaluation.blocks import Block
from lenvm.evaluation.prompts import TaskPrompts
from lenvm.evaluation.statistics import bootstrap_interval, bootstrap_ratio_interval, prompt_means
from lenvm.metrics import Constraint, distinct_n, length_deviation, length_score

Measures = dict[str, Any]
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


def correctness(block: Block, prompts: TaskPrompts) -> list[bool | None]:
    """Whether each completion is right; None where there is no grader."""
    facts = zip(block.prompt, block.text, block.natural, strict=True)
    return [prompts.graded(p, text, ended=bool(natural)) for p, text, natural in facts]


def judged(cell: Cell, prompts: TaskPrompts, constraint: Constraint) -> Measures:
    """The figures of one cell.

    `deviation` is the mean of LIFEBench's LD and `absolute_deviation` that of its size; `nll_per_token` is the negative
    log-likelihood of all tokens under the generator alone, by the number of all tokens, in nats; `end_nll` is that of
    EOS alone, over completions that ended by themselves: an end where the generator would not end is dear; `distinct_1`
    and so on are over all completions, without EOS; `accuracy` is of completions with a grader, what was cut is wrong.
    """
    block = cell.block
    lengths = torch.as_tensor(block.length)
    score = length_score(lengths, cell.target, constraint).numpy()
    deviation = length_deviation(lengths, cell.target).numpy()
    texts = [ids[:-1] if natural else ids for ids, natural in zip(block.ids, block.natural, strict=True)]
    right = [c for c in correctness(block, prompts) if c is not None]
    tokens = int(block.length.sum())
    return {
        "length_score": float(score.mean()),
        "length_score_interval": list(bootstrap_interval(prompt_means(score, block.prompt))),
        "absolute_deviation": float(np.abs(deviation).mean()),
        "deviation": float(deviation.mean()),
        "natural_end": float(block.natural.mean()),
        "mean_length": float(block.length.mean()),
        "nll_per_token": float(block.nll.sum() / tokens),
        "end_nll": float(block.end_nll[block.natural].mean()) if block.natural.any() else None,
        **{f"distinct_{n}": None if math.isnan(share := distinct_n(texts, n)) else share for n in (1, 2, 3)},
        "accuracy": float(np.mean(right)) if right else None,
        "milliseconds_per_token": 1000 * block.seconds / tokens,
        "completions": len(block.length),
        "tokens": tokens,
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
            found |= {name: None, f"{name}_interval": None} if reference is None else _ratio(name, cell, reference)
    return results


def _ratio(name: str, cell: Cell, reference: Cell) -> Measures:
    sums = []
    for block in (cell.block, reference.block):
        columns = [prompt_means(values, block.prompt) for values in (block.nll, block.length)]
        sums.append(np.stack(columns, axis=1))
    above, below = (block.nll.sum() / block.length.sum() for block in (cell.block, reference.block))
    return {name: float(above / below), f"{name}_interval": list(bootstrap_ratio_interval(*sums))}


def named(cells: Sequence[Cell], role: Role) -> str | None:
    """The name of the method in this role; None if there is none."""
    return next((cell.method for cell in cells if cell.role == role), None)

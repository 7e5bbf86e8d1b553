"""What `length_control` measures of completions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from lenvm.data.rollout import Rollout
from lenvm.evaluation.blocks import Block
from lenvm.evaluation.setup import graded
from lenvm.evaluation.statistics import bootstrap_interval, prompt_means
from lenvm.metrics import Constraint, distinct_n, length_deviation, length_score

Measures = dict[str, Any]


class Cell(NamedTuple):
    """The completions of one method at one target.

    Attributes:
        method: its name.
        is_plain: whether it is plain sampling, which others are compared with.
        target: the target in tokens.
        block: the completions.
    """

    method: str
    is_plain: bool
    target: int
    block: Block


def correctness(block: Block, prompts: Sequence[Rollout]) -> list[bool | None]:
    """Whether each completion is right; None where there is no grader."""
    facts = zip(block.prompt, block.text, block.natural, strict=True)
    return [graded(prompts[p], text, "stop" if natural else "length") for p, text, natural in facts]


def judged(cell: Cell, prompts: Sequence[Rollout], constraint: Constraint) -> Measures:
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


def measured(
    cells: Sequence[Cell], prompts: Sequence[Rollout], constraint: Constraint
) -> dict[int, dict[str, Measures]]:
    """Measures by target and method, with `nll_ratio`, the likelihood per token by that of plain sampling."""
    results: dict[int, dict[str, Measures]] = {}
    for cell in cells:
        results.setdefault(cell.target, {})[cell.method] = judged(cell, prompts, constraint)
    plain = plain_of(cells)
    for rows in results.values():
        for found in rows.values():
            of_plain = None if plain is None else rows[plain]["nll_per_token"]
            found["nll_ratio"] = found["nll_per_token"] / of_plain if of_plain else None
    return results


def plain_of(cells: Sequence[Cell]) -> str | None:
    """The name of plain sampling among the methods; None if it is not among them."""
    return next((cell.method for cell in cells if cell.is_plain), None)

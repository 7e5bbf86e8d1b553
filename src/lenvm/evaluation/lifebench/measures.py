"""What `lifebench` measures of completions: by constraint, and there by target, language and category."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from lenvm.evaluation.blocks import Block, concatenated
from lenvm.evaluation.lifebench.items import CONSTRAINTS, Requirement
from lenvm.evaluation.lifebench.jobs import Cell
from lenvm.evaluation.prompts import TaskPrompts
from lenvm.evaluation.quality import Measures, correctness, likelihood_ratio, quality
from lenvm.evaluation.statistics import Floats, bootstrap_interval, prompt_means
from lenvm.metrics import Constraint, TextUnit, length_deviation, length_score, text_length

_SLICES: dict[str, Callable[[Requirement], str | None]] = {
    "by_target": lambda asked: str(asked.target),
    "by_language": lambda asked: asked.language,
    "by_category": lambda asked: asked.category,
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The completions of one method under one constraint, one after the other; arrays are (N,).

    Args:
        method: its name.
        constraint: the constraint.
        block: the completions.
        asked: what was asked of each.
        item: number of its item.
        length: its length in the unit that was asked for.
        score: its length score (Eq. 18).
        deviation: its length deviation (Eq. 17), as a share.
        correct: whether it is right; None where there is no grader.
    """

    method: str
    constraint: Constraint
    block: Block
    asked: list[Requirement]
    item: NDArray[np.int64]
    length: NDArray[np.int64]
    score: Floats
    deviation: Floats
    correct: list[bool | None]

    def where(self, chosen: Callable[[Requirement], bool]) -> NDArray[np.int64]:
        """The places of the completions that were asked for something of this kind."""
        return np.flatnonzero([chosen(one) for one in self.asked])


def lengths_of(block: Block, asked: Sequence[Requirement]) -> NDArray[np.int64]:
    """The length of each completion in the unit that was asked for; tokens count EOS, texts do not have it."""
    return np.array(
        [
            tokens if one.unit == "tokens" else text_length(text, cast(TextUnit, one.unit), one.language)
            for one, tokens, text in zip(asked, block.length, block.text, strict=True)
        ],
        dtype=np.int64,
    )


def judge(cells: Sequence[Cell], prompts: TaskPrompts, requirements: Sequence[Requirement]) -> list[Judged]:
    """Every method under every constraint, in the order of the cells."""
    numbers = {item: number for number, item in enumerate(dict.fromkeys(one.item for one in requirements))}
    together: dict[tuple[str, Constraint], list[Block]] = {}
    for cell in cells:
        together.setdefault((cell.method, cell.constraint), []).append(cell.block)
    found = []
    for (method, constraint), blocks in together.items():
        block = concatenated(blocks)
        asked = [requirements[number] for number in block.prompt]
        lengths = lengths_of(block, asked)
        counted, targets = torch.as_tensor(lengths), torch.tensor([one.target for one in asked])
        found.append(
            Judged(
                method=method,
                constraint=constraint,
                block=block,
                asked=asked,
                item=np.array([numbers[one.item] for one in asked]),
                length=lengths,
                score=length_score(counted, targets, constraint).numpy(),
                deviation=length_deviation(counted, targets).numpy(),
                correct=correctness(block, prompts),
            )
        )
    return found


def measured(judged: Sequence[Judged], plain: str | None) -> dict[str, Measures]:
    """The figures of each method: those of each constraint, and of its targets, languages and categories.

    Scores and deviations are means over completions, which is the authors' mean over targets, since every target has
    the same items. Intervals (95 %) are bootstrapped over items.

    Args:
        judged: what `judge` gave.
        plain: the method that likelihoods are compared with; None if there is none.
    """
    results: dict[str, Measures] = {}
    references = {one.constraint: one for one in judged if one.method == plain}
    for one in judged:
        found, reference = results.setdefault(one.method, {}), references.get(one.constraint)
        found[one.constraint] = _measures(one, reference, lambda asked: True)
        for name, key in _SLICES.items():
            values = dict.fromkeys(value for asked in one.asked if (value := key(asked)) is not None)
            found.setdefault(name, {})[one.constraint] = {
                value: _measures(one, reference, partial(_has, key, value)) for value in values
            }
    return results


def tokens_per_unit(judged: Sequence[Judged], method: str) -> dict[str, float]:
    """Tokens by words or characters, over all completions of a method, by language."""
    sums: dict[str, list[int]] = {}
    for one in judged:
        if one.method == method:
            for asked, tokens, length in zip(one.asked, one.block.length, one.length, strict=True):
                total = sums.setdefault(asked.language or "en", [0, 0])
                total[0] += int(tokens)
                total[1] += int(length)
    return {language: tokens / units for language, (tokens, units) in sorted(sums.items()) if units}


def constraints_of(results: Mapping[str, Measures]) -> list[Constraint]:
    """The constraints that were asked for, in the order of the paper's table."""
    return [name for name in CONSTRAINTS.values() if any(name in found for found in results.values())]


def _has(key: Callable[[Requirement], str | None], value: str, asked: Requirement) -> bool:
    return key(asked) == value


def _measures(one: Judged, reference: Judged | None, chosen: Callable[[Requirement], bool]) -> Measures:
    rows = one.where(chosen)
    block, score, deviation = _taken(one, rows), one.score[rows], one.deviation[rows]
    ratio: Measures = {"nll_ratio": None, "nll_ratio_interval": None}
    if reference is not None:
        places = reference.where(chosen)
        clusters = one.item[rows], reference.item[places]
        ratio = likelihood_ratio("nll_ratio", block, _taken(reference, places), clusters)
    return {
        "length_score": float(score.mean()),
        "length_score_interval": list(bootstrap_interval(prompt_means(score, one.item[rows]))),
        "absolute_deviation": float(np.abs(deviation).mean()),
        "deviation": float(deviation.mean()),
        "mean_units": float(one.length[rows].mean()),
        **quality(block, [one.correct[row] for row in rows]),
        **ratio,
    }


def _taken(one: Judged, rows: NDArray[np.int64]) -> Block:
    share = float(one.block.length[rows].sum() / one.block.length.sum())
    return one.block.take(rows, one.block.seconds * share)

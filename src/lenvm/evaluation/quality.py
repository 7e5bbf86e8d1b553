"""What a method does to its completions beside their length: likelihood, variety, right answers, natural ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lenvm.evaluation.blocks import Block
from lenvm.evaluation.prompts import TaskPrompts
from lenvm.evaluation.statistics import bootstrap_ratio_interval, prompt_means
from lenvm.metrics import distinct_n

Measures = dict[str, Any]
COLUMNS: dict[str, tuple[str, str]] = {
    "score": ("length_score", ".1f"),
    "mean abs LD": ("absolute_deviation", ".1%"),
    "LD": ("deviation", "+.1%"),
    "natural end": ("natural_end", ".1%"),
    "tokens": ("mean_length", ".1f"),
    "NLL/token": ("nll_per_token", ".3f"),
    "x plain": ("nll_ratio", ".3f"),
    "x keeping": ("nll_ratio_to_keeping", ".3f"),
    "NLL of end": ("end_nll", ".2f"),
    "distinct-1": ("distinct_1", ".3f"),
    "distinct-2": ("distinct_2", ".3f"),
    "distinct-3": ("distinct_3", ".3f"),
    "accuracy": ("accuracy", ".1%"),
    "ms/token": ("milliseconds_per_token", ".2f"),
}
"""Columns of the tables of both evaluations: heading, key of the measure, and format."""


def correctness(block: Block, prompts: TaskPrompts) -> list[bool | None]:
    """Whether each completion is right; None where there is no grader."""
    facts = zip(block.prompt, block.text, block.natural, strict=True)
    return [prompts.graded(p, text, ended=bool(natural)) for p, text, natural in facts]


def quality(block: Block, correct: Sequence[bool | None]) -> Measures:
    """The figures of some completions that do not depend on what length was asked for.

    `nll_per_token` is the negative log-likelihood of all tokens under the generator alone, by the number of all tokens,
    in nats; `end_nll` is that of EOS alone, over completions that ended by themselves: an end where the generator would
    not end is dear; `distinct_1` and so on are over all completions, without EOS; `accuracy` is of completions with a
    grader, what was cut is wrong.

    Args:
        block: the completions.
        correct: what `correctness` says of them.
    """
    texts = [ids[:-1] if natural else ids for ids, natural in zip(block.ids, block.natural, strict=True)]
    right = [c for c in correct if c is not None]
    tokens = int(block.length.sum())
    return {
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


def likelihood_ratio(
    name: str, block: Block, reference: Block, clusters: tuple[ArrayLike, ArrayLike] | None = None
) -> Measures:
    """The negative log-likelihood per token by that of other completions of the same prompts, with a 95 % interval.

    Args:
        name: what it is called; the interval is `<name>_interval`.
        block: the completions.
        reference: what they are compared with.
        clusters: what is drawn in the bootstrap: a number per completion of the one, and of the other; left out, the
            prompt.
    """
    sums = []
    for one, cluster in zip((block, reference), clusters or (block.prompt, reference.prompt), strict=True):
        columns = [prompt_means(values, cluster) for values in (one.nll, one.length)]
        sums.append(np.stack(columns, axis=1))
    above, below = (one.nll.sum() / one.length.sum() for one in (block, reference))
    return {name: float(above / below), f"{name}_interval": list(bootstrap_ratio_interval(*sums))}

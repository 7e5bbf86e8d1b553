"""Whether a claim holds in the cells of a grid, beyond what seeds alone do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import t as student

Verdict = Literal["agrees", "disagrees", "not distinguishable"]
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One value of an axis is better than others by a metric.

    Args:
        claim: the claim in words.
        metric: what is compared; less is better.
        axis: dotted option.
        better: label of the value that is said to be better.
        than: labels of the others.
    """

    claim: str
    metric: str
    axis: str
    better: str
    than: tuple[str, ...]


class Comparison(NamedTuple):
    """The difference of two values, seed by seed.

    Attributes:
        than: label of the other value.
        difference: mean of the better one's metric minus the other's.
        interval: low and high end of the mean (95 %, Student's t over the seeds); None with fewer than two seeds.
        verdict: what it says of the claim.
    """

    than: str
    difference: float
    interval: tuple[float, float] | None
    verdict: Verdict


def compare(better: Sequence[float], other: Sequence[float], than: str) -> Comparison:
    """Compares two values by their metric in runs with the same seeds, in the same order; less is better.

    A run that diverged counts as infinitely bad: a value that diverges everywhere is worse than one that never does.
    """
    verdict: Verdict
    ours, theirs = (np.where(np.isfinite(values), values, np.inf) for values in (better, other))
    if np.isinf(ours).any() or np.isinf(theirs).any():
        verdict = "not distinguishable"
        if np.isfinite(ours).all() and np.isinf(theirs).all():
            verdict = "agrees"
        elif np.isinf(ours).all() and np.isfinite(theirs).all():
            verdict = "disagrees"
        return Comparison(than, math.nan, None, verdict)
    differences = ours - theirs
    mean = float(differences.mean())
    if len(differences) < 2:
        return Comparison(than, mean, None, "not distinguishable")
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    reach = float(student.ppf((1 + _LEVEL) / 2, len(differences) - 1)) * error
    low, high = mean - reach, mean + reach
    return Comparison(
        than, mean, (low, high), "agrees" if high < 0 else "disagrees" if low > 0 else "not distinguishable"
    )


def judge(claim: Claim, runs: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The verdict on a claim, with its numbers, as JSON.

    Args:
        claim: the claim.
        runs: the metric of every seed, by label of the axis.

    Returns:
        `verdict` is that of the weakest comparison: it agrees only if it does with every other value, and disagrees if
        one other value is better.
    """
    found = [compare(runs[claim.better], runs[label], label) for label in claim.than]
    verdicts = {comparison.verdict for comparison in found}
    overall = next(v for v in ("disagrees", "not distinguishable", "agrees") if v in verdicts)
    return {
        "claim": claim.claim,
        "verdict": overall,
        "numbers": {
            "metric": claim.metric,
            "means": {label: float(np.mean(runs[label])) for label in (claim.better, *claim.than)},
            "differences": {
                c.than: {"mean": c.difference, "interval": c.interval, "verdict": c.verdict} for c in found
            },
            "seeds": len(runs[claim.better]),
        },
    }

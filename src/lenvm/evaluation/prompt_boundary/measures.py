"""How good predicted lengths are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau

from lenvm.evaluation.prompt_boundary.predictors import Floats, PromptTable
from lenvm.evaluation.statistics import bootstrap_interval

_NEAR = (50, 100)


class LengthBin(NamedTuple):
    """The errors of prompts of similar true length, predicted minus true, in tokens.

    Attributes:
        low: shortest true length.
        high: longest.
        mean_length: mean true length.
        prompts: how many.
        bias: mean error.
        std: standard deviation of the error, with N; its square is the variance.
        mre: mean relative error.
    """

    low: float
    high: float
    mean_length: float
    prompts: int
    bias: float
    std: float
    mre: float


def errors(predicted: Floats, true: Floats) -> dict[str, float]:
    """Errors of predicted lengths; all lengths (P,), in tokens.

    Returns:
        `mre` (Eq. 15), `median_re`, `mae`, `kendall_tau` (tau-b), and the shares of prompts whose error is at most 50
        and 100 tokens: `within_50`, `within_100`.
    """
    absolute = np.abs(predicted - true)
    relative = absolute / true
    constant = len(true) < 2 or np.ptp(predicted) == 0 or np.ptp(true) == 0
    return {
        "mre": float(relative.mean()),
        "median_re": float(np.median(relative)),
        "mae": float(absolute.mean()),
        # a constant ranks nothing; 0 is what chance gives
        "kendall_tau": 0.0 if constant else float(kendalltau(predicted, true).statistic),
        **{f"within_{near}": float((absolute <= near).mean()) for near in _NEAR},
    }


def prompt_errors(predicted: Floats, table: PromptTable) -> dict[str, Any]:
    """`errors` against the return-consistent length, and errors against plain averages of the completions' lengths.

    Returns:
        Those of `errors`; `mre_interval`, bootstrapped over prompts (95 %); and `mre_mean`, `mae_mean`, `mre_median`,
        `mae_median` against the mean and the median length.
    """
    found: dict[str, Any] = errors(predicted, table.lengths)
    found["mre_interval"] = bootstrap_interval(np.abs(predicted - table.lengths) / table.lengths)
    for name, true in (("mean", table.mean_lengths), ("median", table.median_lengths)):
        plain = errors(predicted, true)
        found |= {f"mre_{name}": plain["mre"], f"mae_{name}": plain["mae"]}
    return found


def errors_by_domain(predictions: Mapping[str, Floats], table: PromptTable) -> dict[str, dict[str, dict[str, Any]]]:
    """`prompt_errors` of every predictor, for all prompts (`overall`) and, where there are several, in each domain."""
    domains = np.asarray(table.domains)
    groups = {"overall": np.arange(len(domains))}
    if len(set(table.domains)) > 1:
        groups |= {domain: np.flatnonzero(domains == domain) for domain in sorted(set(table.domains))}
    return {
        group: {name: prompt_errors(p[here], table.rows(here)) for name, p in predictions.items()}
        for group, here in groups.items()
    }


def length_bins(predicted: Floats, true: Floats, count: int = 8) -> list[LengthBin]:
    """Bias and spread of the errors in bins of the true length with equally many prompts, the shortest first.

    Args:
        predicted: predicted lengths; (P,).
        true: true lengths; (P,).
        count: how many bins, where there are so many prompts; a bin has five or more, if there are five.
    """
    count = max(min(count, len(true) // 5), 1)
    bins = []
    for here in np.array_split(np.argsort(true, kind="stable"), count):
        error = predicted[here] - true[here]
        bins.append(
            LengthBin(
                low=float(true[here].min()),
                high=float(true[here].max()),
                mean_length=float(true[here].mean()),
                prompts=len(here),
                bias=float(error.mean()),
                std=float(error.std()),
                mre=float((np.abs(error) / true[here]).mean()),
            )
        )
    return bins

"""How long completions are: percentiles, the gamma that fits them, and how much of the variance the prompt explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenvm.returns import gamma_from_length, percentile_rank

_QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
PERCENTILES = tuple(f"{100 * quantile:g}" for quantile in _QUANTILES)
"""Names of the percentiles that are measured."""


class VarianceComponents(NamedTuple):
    """The variance of a length in a one-way random-effects model: length = mean + prompt + sample.

    Attributes:
        between: variance of the prompts' expected lengths, in tokens squared; None for fewer than two prompts.
        within: variance of the completions of one prompt; None where no prompt has two.
        between_share: `between / (between + within)`, the intraclass correlation: how much of the variance a perfect
            prediction from the prompt alone would explain; None where there is no variance or a part is unknown.
    """

    between: float | None
    within: float | None
    between_share: float | None


def variance_components(lengths: NDArray[Any], prompts: NDArray[Any]) -> VarianceComponents:
    """The analysis-of-variance estimates, unbiased for prompts with different numbers of completions.

    With N completions of k prompts, n_i of prompt i: `within` is MSW, the sum of squares around the prompts' means
    over N - k. `between` is (MSB - MSW) / n0, where MSB is the sum of squares of the prompts' means over k - 1, and
    n0 = (N - sum n_i**2 / N) / (k - 1); it is set to 0 where it would be negative.

    Args:
        lengths: in tokens; (N,).
        prompts: which prompt a completion belongs to; equal numbers, equal prompts; (N,).
    """
    _, prompt, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    n, k = len(lengths), len(counts)
    centred = np.asarray(lengths, dtype=np.float64)
    centred = centred - centred.mean() if n else centred
    means = np.bincount(prompt, weights=centred, minlength=k) / counts
    within = None if n == k else float(((centred - means[prompt]) ** 2).sum() / (n - k))
    if k < 2 or within is None:
        return VarianceComponents(None, within, None)
    mean_square = float((counts * means**2).sum() / (k - 1))
    typical = (n - float((counts.astype(np.float64) ** 2).sum()) / n) / (k - 1)
    between = max((mean_square - within) / typical, 0.0)
    total = between + within
    return VarianceComponents(between, within, between / total if total > 0 else None)


@dataclass(frozen=True, kw_only=True)
class LengthStatistics:
    """What is known of the lengths of some completions; lengths are tokens, EOS counted.

    A completion that was cut has no known length: mean, percentiles, variances and gamma are those of the finished
    ones, and None or empty where there are none.

    Args:
        prompts: how many there are.
        completions: how many there are.
        tokens: of all completions, as far as they were seen.
        censored: completions that were cut.
        mean: mean length.
        percentiles: length by percentage, `"99.9"` for example: the k-th smallest with k = ceil(quantile * count).
        variance: of the length, between and within prompts.
        gamma: the discount factor for which the 99th percentile has the horizon 0.99.
    """

    prompts: int
    completions: int
    tokens: int
    censored: int
    mean: float | None
    percentiles: dict[str, int]
    variance: VarianceComponents
    gamma: float | None

    @property
    def censored_share(self) -> float:
        """Share of the completions that were cut."""
        return self.censored / self.completions


def length_statistics(lengths: NDArray[Any], finished: NDArray[np.bool_], prompts: NDArray[Any]) -> LengthStatistics:
    """Measures completions, of which there must be at least one.

    Args:
        lengths: tokens that were seen; (N,).
        finished: whether they are all of the completion; (N,).
        prompts: which prompt a completion belongs to; (N,).
    """
    known = np.sort(lengths[finished])
    ranks = [percentile_rank(quantile, len(known)) for quantile in _QUANTILES] if len(known) else []
    percentiles = {name: int(known[rank - 1]) for name, rank in zip(PERCENTILES, ranks, strict=False)}
    return LengthStatistics(
        prompts=len(np.unique(prompts)),
        completions=len(lengths),
        tokens=int(lengths.sum(dtype=np.int64)),
        censored=len(lengths) - len(known),
        mean=float(known.mean(dtype=np.float64)) if len(known) else None,
        percentiles=percentiles,
        variance=variance_components(lengths[finished], prompts[finished]),
        gamma=gamma_from_length(percentiles["99"]) if percentiles else None,
    )

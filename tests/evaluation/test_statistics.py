from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import bootstrap, ttest_rel

from lenvm.evaluation.statistics import bootstrap_interval, bootstrap_ratio_interval, largest_drop, prompt_means


def test_every_prompt_counts_once_however_many_completions_it_has() -> None:
    assert prompt_means([1, 3, 10, 0, 0, 3], [7, 7, 2, 9, 9, 9]).tolist() == [10.0, 2.0, 1.0]


def test_bootstrap_interval_is_that_of_scipy() -> None:
    means = np.random.default_rng(0).exponential(size=80)
    ours = bootstrap_interval(means, resamples=20_000)
    theirs = bootstrap((means,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02 * means.std())
    assert ours[0] < means.mean() < ours[1]
    assert bootstrap_interval(means) == bootstrap_interval(means)
    assert bootstrap_interval(np.ones(5)) == (1.0, 1.0)


def test_a_ratios_interval_pairs_the_prompts() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, 200, 60)
    nats = tokens * rng.uniform(0.1, 3.0, 60)
    here = np.stack([nats, tokens], axis=1)
    # ten percent more on every prompt is ten percent more in every resample
    assert bootstrap_ratio_interval(here * [1.1, 1.0], here) == pytest.approx((1.1, 1.1))
    noisy = np.stack([nats * rng.normal(1.1, 0.2, 60), tokens], axis=1)

    def ratio(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, axis: int) -> np.ndarray:
        sums = [x.sum(axis=axis) for x in (a, b, c, d)]
        return np.asarray(sums[0] / sums[1] / (sums[2] / sums[3]))

    theirs = bootstrap(
        (*noisy.T, *here.T), ratio, paired=True, vectorized=True, n_resamples=5000, method="percentile", rng=1
    ).confidence_interval
    assert bootstrap_ratio_interval(noisy, here, resamples=5000) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        low, high = bootstrap_interval(rng.normal(size=60), resamples=400)
        inside += low < 0.0 < high
    assert 0.90 < inside / 300 < 0.98


def test_largest_drop_is_the_paired_t_statistic_of_the_worst_neighbours() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=40)
    curves = [first, first + 1 + rng.normal(size=40), first + 0.5 + rng.normal(size=40), first + 3]
    by_scipy = [float(ttest_rel(a, b).statistic) for a, b in pairwise(curves)]
    assert largest_drop(curves) == pytest.approx(max(by_scipy))
    assert largest_drop([np.array([1.0, 2.0]), np.array([1.0, 2.0])]) == 0.0
    assert largest_drop([np.array([1.0, 2.0]), np.array([0.0, 1.0])]) == math.inf
    assert largest_drop([np.array([1.0, 2.0]), np.array([2.0, 4.0])]) < 0.0

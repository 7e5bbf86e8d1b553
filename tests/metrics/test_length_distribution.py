from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import f_oneway

from lenvm.metrics.length_distribution import VarianceComponents, length_statistics, variance_components
from lenvm.returns import gamma_from_lengths


def test_variance_components_by_hand() -> None:
    # means 2, 6, 6 around 4: SSB = 3*4 + 2*4 + 4 = 24, MSB = 12; SSW = 2 + 8, MSW = 10/3; n0 = (6 - 14/6) / 2 = 11/6
    found = variance_components(np.array([1, 2, 3, 4, 8, 6]), np.array([7, 7, 7, 5, 5, 9]))
    assert found.within == pytest.approx(10 / 3)
    assert found.between == pytest.approx((12 - 10 / 3) / (11 / 6))
    assert found.between_share == pytest.approx(52 / 11 / (52 / 11 + 10 / 3))


@given(
    st.lists(st.lists(st.integers(1, 500), min_size=1, max_size=5), min_size=2, max_size=6).filter(
        lambda groups: any(len(set(group)) > 1 for group in groups)
    )
)
def test_the_ratio_of_the_mean_squares_is_scipys(groups: list[list[int]]) -> None:
    lengths = np.concatenate([np.array(group) for group in groups])
    prompts = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    found = variance_components(lengths, prompts)
    n, k = len(lengths), len(groups)
    typical = (n - sum(len(group) ** 2 for group in groups) / n) / (k - 1)
    ratio = float(f_oneway(*groups).statistic)
    assert found.between == pytest.approx(max(found.within * (ratio - 1) / typical, 0.0), rel=1e-6, abs=1e-6)


def test_known_components_are_found_with_prompts_of_different_size() -> None:
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(6000), rng.integers(1, 9, 6000))
    lengths = 1e6 + 30 * rng.standard_normal(6000)[prompts] + 20 * rng.standard_normal(len(prompts))
    shuffled = rng.permutation(len(prompts))
    between, within, share = variance_components(lengths[shuffled], prompts[shuffled])
    assert between == pytest.approx(900, rel=0.05)
    assert within == pytest.approx(400, rel=0.05)
    assert share == pytest.approx(9 / 13, rel=0.03)


@pytest.mark.parametrize(
    ("lengths", "prompts", "expected"),
    [
        ([3, 9, 27], [1, 2, 3], VarianceComponents(None, None, None)),
        ([3, 9], [4, 4], VarianceComponents(None, 18.0, None)),
        ([5], [4], VarianceComponents(None, None, None)),
        ([], [], VarianceComponents(None, None, None)),
        ([5, 5, 5, 5], [1, 1, 2, 2], VarianceComponents(0.0, 0.0, None)),
        ([1, 9, 1, 9], [1, 1, 2, 2], VarianceComponents(0.0, 32.0, 0.0)),
    ],
    ids=["one completion each", "one prompt", "one row", "nothing", "no variance", "negative estimate"],
)
def test_components_that_are_not_there(lengths: list[int], prompts: list[int], expected: VarianceComponents) -> None:
    assert variance_components(np.array(lengths, dtype=int), np.array(prompts, dtype=int)) == expected


def test_percentiles_are_the_kth_smallest_of_the_finished() -> None:
    lengths = np.random.default_rng(0).permutation(np.arange(1, 1001))
    everything = np.concatenate([lengths, [5000, 6000]])
    finished = everything <= 1000
    found = length_statistics(everything, finished, np.zeros(1002, dtype=np.uint64))
    assert found.percentiles == {
        "25": 250, "50": 500, "75": 750, "90": 900, "95": 950, "99": 990, "99.9": 999, "99.99": 1000
    }  # fmt: skip
    quantiles = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
    assert list(found.percentiles.values()) == np.quantile(lengths, quantiles, method="inverted_cdf").tolist()
    assert (found.prompts, found.completions, found.tokens, found.censored) == (1, 1002, 500_500 + 11_000, 2)
    assert found.mean == 500.5
    assert found.gamma == gamma_from_lengths(lengths.tolist()) == pytest.approx(0.01 ** (1 / 990), rel=1e-12)


def test_nothing_is_known_of_completions_that_were_all_cut() -> None:
    found = length_statistics(np.array([4, 4]), np.array([False, False]), np.array([1, 2]))
    assert (found.mean, found.percentiles, found.gamma, found.censored_share) == (None, {}, None, 1.0)
    assert found.variance == VarianceComponents(None, None, None)

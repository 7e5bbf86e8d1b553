from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap

from lenvm.evaluation.statistics import bootstrap_interval, percentile_interval, resampled_means
from lenvm.evaluation.tradeoff.comparison import BUDGET, TILT, Tradeoff
from lenvm.evaluation.tradeoff.outcomes import Outcome
from lenvm.evaluation.tradeoff.tables import at_share

PROMPTS = 40


def outcome(tokens: float, accuracy: float, strength: str = "", seed: int = 0) -> Outcome:
    """Lengths around a mean, and so many prompts that are always right, in an order of their own."""
    lengths = tokens * np.linspace(0.5, 1.5, PROMPTS)
    rights = np.zeros(PROMPTS)
    rights[np.random.default_rng(seed).permutation(PROMPTS)[: round(accuracy * PROMPTS)]] = 1.0
    return Outcome(
        method="x", strength=strength, lengths=lengths, pass_at={1: rights}, natural_end=1.0, nll_per_token=0.1
    )


def comparison(tilts: dict[float, Outcome], budgets: dict[int, Outcome], plain: Outcome) -> Tradeoff:
    family = [outcome(60, 0.2, "1.1", 3), outcome(90, 0.6, "1.01", 4)]
    return Tradeoff(
        plain=plain, tilts=tilts, budgets=budgets, baselines={"penalty": family, "brief": [outcome(80, 0.8)]}
    )


PLAIN = outcome(100, 0.8, seed=1)
TILTS = {-9.0: outcome(40, 0.6, "-9"), -1.0: outcome(50, 0.8, "-1"), 2.0: outcome(150, 0.1, "2")}
BUDGETS = {30: outcome(30, 0.0, "30"), 70: outcome(60, 0.3, "70", 2)}


def test_the_comparison_by_hand() -> None:
    found = comparison(TILTS, BUDGETS, PLAIN)
    # tilt: 0.6 at 0.4, 0.8 from 0.5; budget: 0 at 0.3, 0.3 at 0.6, 0.8 at 1; the lengthening tilt counts for nothing
    tilt_area = 0.1 * 0.7 + 0.5 * 0.8
    budget_area = 0.2 * (0.1 + 0.3) / 2 + 0.4 * (0.3 + 0.8) / 2
    assert found.area(BUDGET).value == pytest.approx((tilt_area - budget_area) / 0.6)
    assert found.area_from(BUDGET) == pytest.approx(0.4)
    assert found.accuracy(TILT).value == pytest.approx(0.7)
    assert found.share(TILT).value == pytest.approx(0.7 / 0.8)
    assert found.accuracy(BUDGET).value == pytest.approx(0.15)
    assert found.share(BUDGET).value == pytest.approx(0.15 / 0.8)
    # the family: 0.2 at 0.6, 0.6 at 0.9, plain; from 0.6 on
    penalty = 0.3 * 0.4 + 0.1 * 0.7
    assert found.area("penalty").value == pytest.approx((0.4 * 0.8 - penalty) / 0.4)
    assert found.area_from("brief") == pytest.approx(0.8)
    summary = found.summary()
    assert summary["accuracy_at_45_percent"] == {
        "tilt": pytest.approx(0.875), "budget": pytest.approx(0.1875), "penalty": None, "brief": None
    }  # fmt: skip
    assert summary["missing_at_45_percent"] == {
        "penalty": "not below 60.0% of the plain length",
        "brief": "not below 80.0% of the plain length",
    }
    assert summary["area_ci"][0] < summary["area"] < summary["area_ci"][1]
    low, high = summary["accuracy_at_45_percent_ci"]["tilt"]
    assert low < 0.875 < high


def test_every_resample_draws_the_same_prompts_for_everything() -> None:
    # right and short go together prompt by prompt: a curve minus itself is 0 in every resample
    same = Tradeoff(plain=PLAIN, tilts={-1.0: TILTS[-1.0]}, budgets={50: TILTS[-1.0]}, baselines={})
    assert same.area(BUDGET).value == 0.0
    assert same.area(BUDGET).interval == (0.0, 0.0)


def test_the_areas_interval_is_that_of_a_plain_loop_and_of_scipy() -> None:
    found = comparison(TILTS, BUDGETS, PLAIN)
    columns = [o.lengths for o in (TILTS[-9.0], TILTS[-1.0], PLAIN, BUDGETS[30], BUDGETS[70])]
    columns += [o.rights for o in (TILTS[-9.0], TILTS[-1.0], PLAIN, BUDGETS[30], BUDGETS[70])]

    def area(*columns: np.ndarray) -> float:
        x, y = np.array([c.mean() for c in columns]).reshape(2, 5)
        curves = [(x[[0, 1, 2]] / x[2], y[[0, 1, 2]]), (x[[3, 4, 2]] / x[2], y[[3, 4, 2]])]
        grid = np.linspace(max(c[0].min() for c in curves), 1.0, 400)
        gap = np.interp(grid, *curves[0]) - np.interp(grid, *curves[1])
        return float(gap.mean())

    theirs = bootstrap(columns, area, n_resamples=2000, paired=True, vectorized=False, method="percentile", rng=1)
    ours = found.area(BUDGET)
    assert ours.value == pytest.approx(area(*columns), abs=0.01)
    assert ours.interval == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_an_area_without_an_interval_says_why() -> None:
    # one prompt makes the tilt's curve reach further down than the budget's end: in most resamples nothing is shared
    lengths = np.r_[np.full(PROMPTS - 1, 99.0), 1.0]
    short = replace(outcome(1, 0.5, "-9"), lengths=lengths)
    found = Tradeoff(
        plain=replace(PLAIN, lengths=np.full(PROMPTS, 98.0)), tilts={-9.0: short}, budgets=BUDGETS, baselines={}
    )
    area = found.area(BUDGET)
    assert area.value is not None
    assert area.interval is None
    columns, rows = at_share(found)
    cell = dict(zip(columns, rows[1], strict=True))["area below tilt (95 %)"]
    assert cell == f"{area.value:.1%} (no interval: too few resamples share lengths)"


@pytest.mark.filterwarnings("error")
def test_nothing_right_anywhere_is_an_area_of_0_and_no_share() -> None:
    tilts, budgets = ({k: outcome(o.tokens, 0.0) for k, o in group.items()} for group in (TILTS, BUDGETS))
    found = Tradeoff(plain=outcome(100, 0.0), tilts=tilts, budgets=budgets, baselines={})
    summary = found.summary()
    assert (summary["area"], summary["area_ci"]) == (0.0, (0.0, 0.0))
    assert summary["accuracy_at_45_percent"] == {"tilt": None, "budget": None}
    assert summary["absolute_accuracy_at_45_percent"] == {"tilt": 0.0, "budget": 0.0}
    assert summary["missing_at_45_percent"] == dict.fromkeys(("tilt", "budget"), "no plain completion is right")


@pytest.mark.filterwarnings("error")
def test_a_single_right_completion_has_no_interval_of_shares() -> None:
    # in a third of the resamples nothing is right, and a share of nothing is no number
    found = comparison(TILTS, BUDGETS, outcome(100, 1 / PROMPTS))
    share = found.share(TILT)
    assert share.value == pytest.approx(0.7 * PROMPTS)
    assert share.interval is None


def test_without_a_shortening_tilt_there_is_no_area() -> None:
    found = comparison({2.0: TILTS[2.0]}, BUDGETS, PLAIN)
    assert found.area(BUDGET) == (None, None)
    assert found.missing(TILT) == "not below 100.0% of the plain length"


def test_resampled_means_are_those_of_the_interval() -> None:
    columns = np.random.default_rng(0).exponential(size=(30, 3))
    means = resampled_means(columns)
    assert means[0] == pytest.approx(columns.mean(axis=0))
    assert len(means) == 2001
    for column in range(3):
        assert percentile_interval(means[1:, column]) == pytest.approx(bootstrap_interval(columns[:, column]))


def test_too_few_numbers_have_no_interval() -> None:
    values = np.arange(100.0)
    assert percentile_interval(values, level=0.9) == pytest.approx((4.95, 94.05))
    values[:11] = np.nan
    assert percentile_interval(values, level=0.9) is None
    assert percentile_interval(values[10:], level=0.9) is not None

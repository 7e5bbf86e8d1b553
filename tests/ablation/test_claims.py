from __future__ import annotations

import math

import pytest
from scipy import stats

from lenvm.ablation.claims import Claim, compare, judge

CLAIM = Claim(claim="log is best", metric="val/mae", axis="model.target", better="log", than=("raw", "normal"))


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    ours, theirs = [5.0, 6.0, 7.5, 6.1], [6.5, 7.2, 8.4, 7.9]
    found = compare(ours, theirs, "raw")
    wanted = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.interval == pytest.approx((wanted.low, wanted.high))
    assert found.difference == pytest.approx(-1.35)
    assert found.verdict == "agrees"
    assert compare(theirs, ours, "raw").verdict == "disagrees"


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], "not distinguishable"),  # differences of -1, -2, -3: -2 +- 2.48
        ([1.0], [9.0], "not distinguishable"),  # one seed says nothing about seeds
        ([1.0, 2.0], [math.nan, math.inf], "agrees"),
        ([math.nan, math.nan], [1.0, 2.0], "disagrees"),
        ([1.0, math.nan], [1.0, 2.0], "not distinguishable"),
    ],
)
def test_what_seeds_alone_could_do_is_no_difference(ours: list[float], theirs: list[float], verdict: str) -> None:
    assert compare(ours, theirs, "raw").verdict == verdict


def test_a_claim_holds_if_it_does_against_every_other_value() -> None:
    better, near, worse, best = [1.0, 1.1, 0.9], [1.05, 1.0, 1.0], [3.0, 3.1, 2.9], [0.1, 0.2, 0.0]
    runs = {"log": better, "raw": worse, "normal": worse}
    found = judge(CLAIM, runs)
    assert found["verdict"] == "agrees"
    assert found["numbers"]["means"] == pytest.approx({"log": 1.0, "raw": 3.0, "normal": 3.0})
    assert found["numbers"]["seeds"] == 3
    assert judge(CLAIM, {**runs, "normal": near})["verdict"] == "not distinguishable"
    assert judge(CLAIM, {"log": better, "raw": near, "normal": best})["verdict"] == "disagrees"

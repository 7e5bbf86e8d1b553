from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenvm.metrics import Constraint, distinct_n, length_deviation, length_score, meets

CONSTRAINTS: tuple[Constraint, ...] = ("equal", "at_most", "at_least")
E = math.e


@pytest.mark.parametrize(
    ("length", "target", "deviation", "equal", "at_most", "at_least"),
    [
        # by hand: k1 = 5 below, k2 = 2 above
        (100, 100, 0.0, 100.0, 100.0, 100.0),
        (80, 100, -0.2, 100 / E, 100.0, 100 / E),  # exp(-1)
        (150, 100, 0.5, 100 / E, 100 / E, 100.0),  # exp(-1)
        (1, 2, -0.5, 100 * E**-2.5, 100.0, 100 * E**-2.5),
        (48, 16, 2.0, 100 * E**-4, 100 * E**-4, 100.0),
        (129, 128, 1 / 128, 100 * E ** (-2 / 128), 100 * E ** (-2 / 128), 100.0),
    ],
)
def test_deviation_and_score_by_hand(
    length: int, target: int, deviation: float, equal: float, at_most: float, at_least: float
) -> None:
    lengths = torch.tensor([length])
    assert length_deviation(lengths, target).item() == pytest.approx(deviation, abs=1e-12)
    for constraint, expected in zip(CONSTRAINTS, (equal, at_most, at_least), strict=True):
        score = length_score(lengths, target, constraint)
        assert score.item() == pytest.approx(expected, rel=1e-12)
        assert meets(lengths, target, constraint).item() is (expected == 100.0)


@given(lengths=st.lists(st.integers(1, 9999), min_size=1, max_size=20), target=st.integers(1, 9999))
def test_one_sided_scores_multiply_to_the_two_sided_one(lengths: list[int], target: int) -> None:
    given_lengths = torch.tensor(lengths)
    equal, at_most, at_least = (length_score(given_lengths, target, c) for c in CONSTRAINTS)
    torch.testing.assert_close(at_most * at_least / 100, equal)
    assert torch.equal(torch.minimum(at_most, at_least), equal)
    per_row = length_score(given_lengths, torch.full_like(given_lengths, target), "equal")
    assert torch.equal(per_row, equal)


def test_distinct_n_counts_different_grams_and_never_crosses_completions() -> None:
    # 1 2 1 2 2 1: two of six; 12 21 12 21: two of four; 121 212: two of two
    completions = [[1, 2, 1, 2], [2, 1]]
    assert distinct_n(completions, 1) == pytest.approx(2 / 6)
    assert distinct_n(completions, 2) == pytest.approx(2 / 4)
    assert distinct_n(completions, 3) == pytest.approx(1.0)
    # 5 6 and 7 8 do not make 6 7
    assert distinct_n([[5, 6], [7, 8]], 2) == 1.0
    assert distinct_n([[5, 6], [5, 6], [5, 6]], 2) == pytest.approx(1 / 3)


@given(
    completions=st.lists(st.lists(st.integers(0, 3), max_size=7), max_size=6),
    n=st.integers(1, 4),
)
def test_distinct_n_is_what_counting_one_by_one_gives(completions: list[list[int]], n: int) -> None:
    grams = [tuple(ids[i : i + n]) for ids in completions for i in range(len(ids) - n + 1)]
    found = distinct_n(completions, n)
    assert math.isnan(found) if not grams else found == pytest.approx(len(set(grams)) / len(grams))

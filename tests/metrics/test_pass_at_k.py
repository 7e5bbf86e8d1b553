from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from lenvm.errors import InputError
from lenvm.metrics import pass_at_k


@pytest.mark.parametrize("samples", [1, 2, 5, 7])
def test_it_is_the_share_of_all_subsets_with_a_right_one(samples: int) -> None:
    for right in range(samples + 1):
        completions = [True] * right + [False] * (samples - right)
        for k in range(1, samples + 1):
            subsets = list(combinations(completions, k))
            share = sum(any(subset) for subset in subsets) / len(subsets)
            assert pass_at_k(right, samples, k) == pytest.approx([share], abs=1e-12)


def test_prompts_with_different_numbers_and_large_ones() -> None:
    found = pass_at_k([0, 1, 3, 900], [4, 4, 8, 1000], 2)
    assert found == pytest.approx([0.0, 0.5, 1 - comb(5, 2) / comb(8, 2), 1 - comb(100, 2) / comb(1000, 2)])
    assert pass_at_k(1, 2000, 1000) == pytest.approx([0.5])
    right = np.arange(65)
    assert pass_at_k(right, 64, 1) == pytest.approx(right / 64)


def test_it_has_no_bias_where_best_of_the_first_k_has_noise() -> None:
    # completions are right with chance 0.3: Pass@4 is 1 - 0.7**4 however many are written
    right = np.random.default_rng(0).binomial(16, 0.3, 20_000)
    assert pass_at_k(right, 16, 4).mean() == pytest.approx(1 - 0.7**4, abs=0.005)


@pytest.mark.parametrize(("right", "samples", "k"), [(1, 3, 4), (1, 3, 0), ([1, 1], [8, 3], 4)])
def test_more_than_there_are_cannot_be_drawn(right: int, samples: int, k: int) -> None:
    with pytest.raises(InputError, match=f"got k = {k} and 3 completions; choose a smaller k"):
        pass_at_k(right, samples, k)


def test_no_more_can_be_right_than_were_written() -> None:
    with pytest.raises(InputError, match="must be 0 or more and no more than all"):
        pass_at_k([1, 5], [4, 4], 1)

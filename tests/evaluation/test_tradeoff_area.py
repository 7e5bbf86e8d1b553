from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad, trapezoid

from lenvm.evaluation.tradeoff.area import Curves, area_between, shortest_shared


def curve(*points: tuple[float, float]) -> Curves:
    x, y = zip(*points, strict=True)
    return Curves.through([x], [y])


def test_two_polygons_by_hand() -> None:
    above = curve((0.2, 0.8), (0.6, 1.0), (1.0, 1.0))
    below = curve((0.1, 0.0), (1.0, 0.9))
    # from 0.2: below `above` 0.4 * 0.9 + 0.4 * 1, below `below` 0.8 * (0.1 + 0.9) / 2
    assert shortest_shared(above, below) == pytest.approx([0.2])
    assert area_between(above, below) == pytest.approx([(0.76 - 0.4) / 0.8])
    assert area_between(below, above) == pytest.approx([-(0.76 - 0.4) / 0.8])
    assert area_between(above, above) == pytest.approx([0.0])


def test_curves_that_cross_are_as_much_above_as_below() -> None:
    falling, rising = curve((0.0, 1.0), (1.0, 0.0)), curve((0.0, 0.0), (1.0, 1.0))
    assert area_between(falling, rising) == pytest.approx([0.0], abs=1e-12)
    assert area_between(falling, rising, high=0.5) == pytest.approx([0.5])


def test_the_order_of_points_does_not_matter_and_what_is_longer_than_plain_does_not_count() -> None:
    flat = curve((0.0, 0.0), (1.0, 0.0))
    # a weaker tilt that came out longer than plain sampling
    wild = curve((1.0, 0.5), (0.5, 0.5), (1.2, 0.9), (0.8, 0.7))
    assert area_between(wild, flat) == pytest.approx([(0.3 * 0.6 + 0.2 * 0.6) / 0.5])
    assert wild.height(1.0) == pytest.approx([0.5])


def test_a_curve_of_one_point_has_a_height_there_and_no_area() -> None:
    alone, line = curve((1.0, 0.4)), curve((0.5, 0.2), (1.0, 0.4))
    assert alone.height(1.0) == pytest.approx([0.4])
    assert np.isnan(alone.height(0.45)).all()
    assert np.isnan(area_between(alone, line)).all()
    assert np.isnan(area_between(line, alone)).all()


def test_heights_are_interpolated_and_nothing_is_beyond_the_ends() -> None:
    line = Curves.through([[0.3, 0.5, 1.0], [0.5, 0.9, 1.0]], [[0.0, 0.8, 1.0], [0.8, 0.9, 1.0]])
    assert line.height(0.45)[0] == pytest.approx(0.6)
    assert np.isnan(line.height(0.45)[1])
    assert line.height(0.5) == pytest.approx([0.8, 0.8])
    assert np.isnan(line.height(1.01)).all()
    # two strengths of exactly one length
    assert curve((0.2, 0.0), (0.4, 0.5), (0.4, 0.7), (1.0, 1.0)).height(0.4) == pytest.approx([0.6])


def test_many_wild_curves_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.1, 1.3, (2, 20, 7)), rng.uniform(0, 1, (2, 20, 7))
    x[:, :, 3] = 1.0
    first, second = (Curves.through(*pair) for pair in zip(x, y, strict=True))
    found, heights = area_between(first, second), first.height(0.45)
    assert np.isfinite(found).all()
    for row in range(20):
        low = max(first.x[row, 0], second.x[row, 0])
        grid = np.unique(np.concatenate([first.x[row], second.x[row], [low, 1.0]]))
        grid = grid[(grid >= low) & (grid <= 1.0)]
        gap = [np.interp(grid, c.x[row], c.y[row]) for c in (first, second)]
        assert found[row] == pytest.approx(trapezoid(gap[0] - gap[1], grid) / (1.0 - low))
        height = partial(np.interp, xp=first.x[row], fp=first.y[row])
        parts = [quad(height, *ends)[0] for ends in pairwise(grid)]
        area = first.integral(np.full(20, low), np.ones(20))[row]
        assert area == pytest.approx(sum(parts), rel=1e-6)
        if first.x[row, 0] <= 0.45:
            assert heights[row] == pytest.approx(np.interp(0.45, first.x[row], first.y[row]))
        else:
            assert np.isnan(heights[row])

"""Curves of accuracy over mean length: how high one is somewhere, and how far one is above another.

A curve is a set of points joined by straight lines in the order of their lengths. A point between two others is what
one gets by tossing a coin for every prompt, so it can be had. Curves need not rise or fall, and a point does not have
to be longer than that of a weaker strength. Many curves at once, one per bootstrap resample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lenvm.evaluation.statistics import Floats


class Curves(NamedTuple):
    """One curve per row, its points by ascending length.

    Attributes:
        x: mean length of each point, usually as a share of plain sampling's; (R, K) with K > 0.
        y: accuracy of each point; (R, K).
    """

    x: Floats
    y: Floats

    @classmethod
    def through(cls, x: ArrayLike, y: ArrayLike) -> Curves:
        """The curves through points in any order; (R, K) each."""
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        order = np.argsort(x, axis=1, kind="stable")
        return cls(np.take_along_axis(x, order, axis=1), np.take_along_axis(y, order, axis=1))

    def height(self, at: float) -> Floats:
        """The accuracy of each curve at one length; NaN where a curve does not reach it; (R,).

        Where several points have exactly this length, their mean.
        """
        here = self.x == at
        count, points = here.sum(axis=1), self.x.shape[1]
        on_point = np.where(count > 0, (self.y * here).sum(axis=1) / np.maximum(count, 1), np.nan)
        if points == 1:
            return on_point
        after = np.clip((self.x <= at).sum(axis=1), 1, points - 1)
        x0, x1, y0, y1 = (
            np.take_along_axis(values, place[:, None], axis=1)[:, 0]
            for values in (self.x, self.y)
            for place in (after - 1, after)
        )
        between = y0 + (y1 - y0) * (at - x0) / np.where(x1 > x0, x1 - x0, 1.0)
        reached = (self.x[:, 0] <= at) & (at <= self.x[:, -1])
        return np.where(reached & (count == 0), between, on_point)

    def integral(self, low: Floats, high: Floats) -> Floats:
        """The area below each curve from one length to another, both within the curve; (R,) each."""
        x0, x1, y0, y1 = self.x[:, :-1], self.x[:, 1:], self.y[:, :-1], self.y[:, 1:]
        start, end = (np.clip(x, low[:, None], high[:, None]) for x in (x0, x1))
        slope = (y1 - y0) / np.where(x1 > x0, x1 - x0, 1.0)
        middle = y0 + slope * ((start + end) / 2 - x0)
        return np.asarray((middle * (end - start)).sum(axis=1))


def shortest_shared(first: Curves, second: Curves) -> Floats:
    """The shortest length that both curves reach; (R,)."""
    return np.maximum(first.x[:, 0], second.x[:, 0])


def area_between(first: Curves, second: Curves, high: float = 1.0) -> Floats:
    """How far the first curve is above the second, on average over the lengths that both reach; (R,).

    The integral of the difference, by the width of the range: an accuracy, and below 0 where the second is higher.

    Args:
        first: for example those of guided decoding.
        second: those that it is compared with, as many.
        high: where the range ends; it begins at the shortest length that both reach. 1 is plain sampling's length.

    Returns:
        NaN where no two lengths up to `high` are reached by both.
    """
    low = shortest_shared(first, second)
    top = np.minimum(high, np.minimum(first.x[:, -1], second.x[:, -1]))
    width = top - low
    area = first.integral(low, np.maximum(low, top)) - second.integral(low, np.maximum(low, top))
    return np.where(width > 0, area / np.where(width > 0, width, 1.0), np.nan)

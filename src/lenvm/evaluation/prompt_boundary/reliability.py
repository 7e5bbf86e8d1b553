"""Whether a predicted horizon is met on average: calibration of the value itself, in memory of fixed size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenvm.evaluation.prompt_boundary.predictors import Floats

_CELLS = 4096


class ReliabilityBin(NamedTuple):
    """States of similar predicted horizon.

    Attributes:
        states: how many.
        predicted: mean predicted horizon u.
        true: mean of the true `1 - gamma**n`.
    """

    states: int
    predicted: float
    true: float


class Reliability:
    """Counts and sums of horizons in narrow cells of the predicted one; those of parts add up to those of the whole.

    Attributes:
        sums: number of states, sum of predicted and sum of true horizons per cell; (3, 4096).
    """

    def __init__(self, sums: Floats | None = None) -> None:
        self.sums: Floats = np.zeros((3, _CELLS)) if sums is None else sums

    def add(self, predicted: Floats, true: Floats) -> None:
        """Counts states.

        Args:
            predicted: predicted horizons in [0, 1]; (N,).
            true: `1 - gamma**n` of the tokens that really followed; (N,).
        """
        cells: NDArray[np.intp] = np.minimum((predicted * _CELLS).astype(np.intp), _CELLS - 1)
        for row, weights in zip(self.sums, (np.ones_like(predicted), predicted, true), strict=True):
            row += np.bincount(cells, weights=weights, minlength=_CELLS)

    def bins(self, count: int = 12) -> list[ReliabilityBin]:
        """Neighbouring cells put together to about equally many states each, the smallest horizons first."""
        states = self.sums[0]
        # a cell belongs where its middle state would be
        rank = (np.cumsum(states) - states / 2) / max(states.sum(), 1.0)
        group = np.minimum((rank * count).astype(np.intp), count - 1)
        grouped = np.stack([np.bincount(group, weights=row, minlength=count) for row in self.sums])
        return [ReliabilityBin(int(n), float(u / n), float(true / n)) for n, u, true in grouped.T if n > 0]

    def expected_error(self, count: int = 12) -> float:
        """Expected calibration error: |mean predicted - mean true| of the bins, weighted by their states."""
        found = self.bins(count)
        total = sum(b.states for b in found)
        return sum(b.states * abs(b.predicted - b.true) for b in found) / total if total else float("nan")

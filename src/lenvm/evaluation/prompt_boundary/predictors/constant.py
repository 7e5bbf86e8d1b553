"""The same length for every prompt."""

from __future__ import annotations

import numpy as np

from lenvm.evaluation.prompt_boundary.predictors.base import AbstractLengthPredictor, Floats, PromptTable


class BestConstant(AbstractLengthPredictor):
    """The one number with the smallest mean relative error: the median of the lengths, weighted by 1/length."""

    name = "constant"

    def fit(self, table: PromptTable) -> None:
        self.constant = best_constant(table.lengths)

    def predict(self, table: PromptTable) -> Floats:
        return np.full(len(table.lengths), self.constant)


def best_constant(lengths: Floats) -> float:
    """The constant c that minimises the mean of |c - L| / L."""
    order = np.argsort(lengths)
    weights = np.cumsum(1.0 / lengths[order])
    return float(lengths[order][np.searchsorted(weights, weights[-1] / 2)])

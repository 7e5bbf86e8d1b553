"""Longer questions, longer answers."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LinearRegression

from lenvm.evaluation.prompt_boundary.predictors.base import (
    AbstractLengthPredictor,
    Floats,
    PromptTable,
    on_log_length,
)


class PromptLengthLine(AbstractLengthPredictor):
    """A line from log prompt length to log completion length."""

    name = "prompt length"

    def fit(self, table: PromptTable) -> None:
        self.model = on_log_length(LinearRegression()).fit(self._features(table), table.lengths)

    def predict(self, table: PromptTable) -> Floats:
        return np.asarray(self.model.predict(self._features(table)))

    @staticmethod
    def _features(table: PromptTable) -> Floats:
        return np.asarray(np.log(table.prompt_lengths)[:, None])

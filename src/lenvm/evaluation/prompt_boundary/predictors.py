"""Predictors of completion length to beat: they see the prompt as text or as a number of tokens, never the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.pipeline import make_pipeline

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PromptTable:
    """Prompts with the length to be predicted.

    Args:
        prompt_ids: identifier of each prompt.
        texts: text of each prompt, as the generator reads it.
        prompt_lengths: tokens of each prompt; (P,).
        lengths: return-consistent true completion length of each prompt, in tokens; (P,).
        domains: domain of each prompt.
    """

    prompt_ids: list[str]
    texts: list[str]
    prompt_lengths: Floats
    lengths: Floats
    domains: list[str]


class AbstractLengthPredictor(ABC):
    """Learns completion lengths from training prompts."""

    name: str

    @abstractmethod
    def fit(self, table: PromptTable) -> None:
        """Learns from prompts with known lengths."""

    @abstractmethod
    def predict(self, table: PromptTable) -> Floats:
        """Predicted lengths of prompts, in tokens; (P,)."""


class BestConstant(AbstractLengthPredictor):
    """The one number with the smallest mean relative error: the median of the lengths, weighted by 1/length."""

    name = "constant"

    def fit(self, table: PromptTable) -> None:
        self.constant = best_constant(table.lengths)

    def predict(self, table: PromptTable) -> Floats:
        return np.full(len(table.lengths), self.constant)


class PromptLengthLine(AbstractLengthPredictor):
    """A line from log prompt length to log completion length."""

    name = "prompt length"

    def fit(self, table: PromptTable) -> None:
        self.model = _on_log_length(LinearRegression()).fit(self._features(table), table.lengths)

    def predict(self, table: PromptTable) -> Floats:
        return np.asarray(self.model.predict(self._features(table)))

    @staticmethod
    def _features(table: PromptTable) -> Floats:
        return np.log(table.prompt_lengths)[:, None]


class TfidfRidge(AbstractLengthPredictor):
    """Ridge regression of log completion length on TF-IDF features of the prompt; the penalty is cross-validated."""

    name = "TF-IDF + ridge"

    def fit(self, table: PromptTable) -> None:
        # words of one prompt teach nothing, unless there are few prompts
        min_df = 2 if len(table.texts) > 100 else 1
        features = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=min_df, max_features=100_000)
        model = make_pipeline(features, RidgeCV(alphas=(0.1, 0.3, 1.0, 3.0, 10.0)))
        self.model = _on_log_length(model).fit(np.asarray(table.texts, dtype=object), table.lengths)

    def predict(self, table: PromptTable) -> Floats:
        return np.asarray(self.model.predict(np.asarray(table.texts, dtype=object)))


def best_constant(lengths: Floats) -> float:
    """The constant c that minimises the mean of |c - L| / L."""
    order = np.argsort(lengths)
    weights = np.cumsum(1.0 / lengths[order])
    return float(lengths[order][np.searchsorted(weights, weights[-1] / 2)])


def _on_log_length(model: Any) -> TransformedTargetRegressor:
    """Least squares on log length keeps relative errors small, which is what is judged."""
    return TransformedTargetRegressor(regressor=model, func=np.log, inverse_func=np.exp, check_inverse=False)

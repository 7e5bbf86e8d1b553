"""What a predictor of completion length is, and what it learns from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
"""Stored by the thousand, so in single precision."""
_PENALTIES = np.logspace(-1, 5, 13)


@dataclass(frozen=True, kw_only=True)
class PromptTable:
    """Prompts with the length to be predicted; P of them.

    Args:
        prompt_ids: identifier of each prompt.
        texts: text of each prompt, as the generator reads it.
        token_ids: the same as token ids.
        lengths: return-consistent true completion length of each prompt, in tokens (Eq. 14); (P,).
        completion_lengths: lengths of each prompt's completions, in tokens, EOS counted.
        domains: domain of each prompt.
    """

    prompt_ids: list[str]
    texts: list[str]
    token_ids: list[list[int]]
    lengths: Floats
    completion_lengths: list[NDArray[np.int64]]
    domains: list[str]

    @property
    def prompt_lengths(self) -> Floats:
        """Tokens of each prompt; (P,)."""
        return np.array([len(ids) for ids in self.token_ids], dtype=np.float64)

    @property
    def mean_lengths(self) -> Floats:
        """Mean length of each prompt's completions; (P,)."""
        return np.array([lengths.mean() for lengths in self.completion_lengths])

    @property
    def median_lengths(self) -> Floats:
        """Median length of each prompt's completions; (P,)."""
        return np.array([np.median(lengths) for lengths in self.completion_lengths])

    def rows(self, chosen: NDArray[np.intp]) -> PromptTable:
        """The table of some prompts, by their numbers."""
        return PromptTable(
            prompt_ids=[self.prompt_ids[i] for i in chosen],
            texts=[self.texts[i] for i in chosen],
            token_ids=[self.token_ids[i] for i in chosen],
            lengths=self.lengths[chosen],
            completion_lengths=[self.completion_lengths[i] for i in chosen],
            domains=[self.domains[i] for i in chosen],
        )


class AbstractLengthPredictor(ABC):
    """Learns completion lengths from training prompts."""

    name: str
    learns = True
    """Whether it must be fitted before it predicts."""

    @abstractmethod
    def fit(self, table: PromptTable) -> None:
        """Learns from prompts with known lengths."""

    @abstractmethod
    def predict(self, table: PromptTable) -> Floats:
        """Predicted lengths of prompts, in tokens; (P,)."""


def on_log_length(model: Any) -> TransformedTargetRegressor:
    """Least squares on log length keeps relative errors small, which is what is judged."""
    return TransformedTargetRegressor(regressor=model, func=np.log, inverse_func=np.exp, check_inverse=False)


def ridge_on_log_length() -> TransformedTargetRegressor:
    """Ridge regression of log length on standardised features; the penalty is cross-validated (leave one out)."""
    return on_log_length(make_pipeline(StandardScaler(), RidgeCV(alphas=_PENALTIES)))

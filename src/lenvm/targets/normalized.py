"""Regress the share of a longest length."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lenvm.errors import InputError
from lenvm.targets.base import AbstractLengthTarget, LengthSummary, at_least_float32


@dataclass(frozen=True, kw_only=True)
class NormalizedLength(AbstractLengthTarget):
    """The target is n / max_length, predicted through a sigmoid (paper section 5.1).

    Args:
        max_length: the length, in tokens, that maps to 1; nothing longer can be predicted. Left out, it is the longest
            training completion.
    """

    max_length: float | None = None

    def __post_init__(self) -> None:
        if self.max_length is not None and not self.max_length > 0:
            raise InputError(
                f"`max_length` must be positive, got {self.max_length!r}; leave it out to take it from the data."
            )

    def encode(self, remaining: Tensor) -> Tensor:
        return at_least_float32(remaining) / self._scale

    def predict(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(at_least_float32(logits))

    def decode(self, logits: Tensor) -> Tensor:
        return self.predict(logits) * self._scale

    def logits(self, remaining: Tensor) -> Tensor:
        share = self.encode(remaining)
        return torch.log(share) - torch.log1p(-share)

    @property
    def reference_gamma(self) -> None:
        return None

    def calibrated(self, lengths: LengthSummary) -> NormalizedLength:
        return self if self.max_length is not None else replace(self, max_length=float(lengths.max_length))

    def regression_target(self, predictions: Tensor, remaining: Tensor, trajectories: Tensor) -> Tensor:
        return self.encode(remaining)

    @property
    def _scale(self) -> float:
        if self.max_length is None:
            raise InputError(
                "NormalizedLength has no `max_length` yet; give one, or call `calibrated` with the training lengths."
            )
        return self.max_length

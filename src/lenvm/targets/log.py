"""Regress the logarithm of the remaining length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lenvm.targets.base import AbstractLengthTarget, LengthSummary, at_least_float32, exact_softplus, inverse_softplus


@dataclass(frozen=True, kw_only=True)
class LogLength(AbstractLengthTarget):
    """The target is log(1 + n), predicted through a softplus (paper section 5.1)."""

    def encode(self, remaining: Tensor) -> Tensor:
        return torch.log1p(at_least_float32(remaining))

    def predict(self, logits: Tensor) -> Tensor:
        return exact_softplus(logits)

    def decode(self, logits: Tensor) -> Tensor:
        return torch.expm1(exact_softplus(logits))

    def logits(self, remaining: Tensor) -> Tensor:
        return inverse_softplus(self.encode(remaining))

    @property
    def reference_gamma(self) -> None:
        return None

    def calibrated(self, lengths: LengthSummary) -> LogLength:
        return self

    def regression_target(self, predictions: Tensor, remaining: Tensor, trajectories: Tensor) -> Tensor:
        return self.encode(remaining)

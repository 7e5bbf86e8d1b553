"""Regress the remaining length itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lenvm.targets.base import AbstractLengthTarget, LengthSummary, at_least_float32, exact_softplus, inverse_softplus


@dataclass(frozen=True, kw_only=True)
class RawLength(AbstractLengthTarget):
    """The target is n, the number of tokens still to come; softplus keeps predictions positive (paper section 5.1)."""

    def encode(self, remaining: Tensor) -> Tensor:
        return at_least_float32(remaining)

    def predict(self, logits: Tensor) -> Tensor:
        return exact_softplus(logits)

    def decode(self, logits: Tensor) -> Tensor:
        return exact_softplus(logits)

    def logits(self, remaining: Tensor) -> Tensor:
        return inverse_softplus(at_least_float32(remaining))

    @property
    def reference_gamma(self) -> None:
        return None

    def calibrated(self, lengths: LengthSummary) -> RawLength:
        return self

    def regression_target(self, predictions: Tensor, remaining: Tensor, trajectories: Tensor) -> Tensor:
        return self.encode(remaining)

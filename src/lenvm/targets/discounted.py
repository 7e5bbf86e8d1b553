"""Regress the discounted return: the paper's length value."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lenvm.errors import InputError
from lenvm.returns import check_gamma, discounted_returns, lambda_returns
from lenvm.targets.base import AbstractLengthTarget, LengthSummary, at_least_float32, exact_softplus, inverse_softplus


@dataclass(frozen=True, kw_only=True)
class DiscountedReturn(AbstractLengthTarget):
    """The target is the value V = -(1 - gamma**n), predicted as -sigmoid(z) (paper Eq. 2 and 8).

    Args:
        gamma: discount factor in (0, 1). Left out, or `auto`, it is the one for which the 99th percentile of the
            training data's finished completions has the horizon 0.99: the number that `lenvm rollout stats` prints.
        lam: lambda of the lambda-return in [0, 1]; 1 regresses the observed return (the paper's choice), smaller values
            bootstrap from the model's own next prediction.
    """

    gamma: float | Literal["auto"] | None = None
    lam: float = 1.0

    def __post_init__(self) -> None:
        if self.gamma is not None and self.gamma != "auto":
            check_gamma(self.gamma)
        if not 0.0 <= self.lam <= 1.0:
            raise InputError(f"`lam` must lie in [0, 1], got {self.lam!r}; 1 is plain Monte Carlo.")

    def encode(self, remaining: Tensor) -> Tensor:
        return discounted_returns(at_least_float32(remaining), self._gamma)

    def predict(self, logits: Tensor) -> Tensor:
        return -torch.sigmoid(at_least_float32(logits))

    def decode(self, logits: Tensor) -> Tensor:
        return exact_softplus(logits) / -math.log(self._gamma)

    def logits(self, remaining: Tensor) -> Tensor:
        return inverse_softplus(at_least_float32(remaining) * -math.log(self._gamma))

    @property
    def reference_gamma(self) -> float | None:
        return None if isinstance(self.gamma, str) else self.gamma

    def calibrated(self, lengths: LengthSummary) -> DiscountedReturn:
        return self if self.reference_gamma is not None else replace(self, gamma=lengths.gamma)

    def regression_target(self, predictions: Tensor, remaining: Tensor, trajectories: Tensor) -> Tensor:
        return lambda_returns(predictions, at_least_float32(remaining), self._gamma, self.lam, segments=trajectories)

    @property
    def _gamma(self) -> float:
        gamma = self.reference_gamma
        if gamma is None:
            raise InputError(
                "DiscountedReturn has no `gamma` yet; give one, or call `calibrated` with the training lengths."
            )
        return gamma

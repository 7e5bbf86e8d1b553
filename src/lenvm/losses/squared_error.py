"""The paper's loss."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lenvm.losses.base import AbstractLoss


@dataclass(frozen=True, kw_only=True)
class SquaredError(AbstractLoss):
    """`(prediction - target)**2` (paper Eq. 9; the authors' code has half of it, a Huber loss with delta 1)."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square()

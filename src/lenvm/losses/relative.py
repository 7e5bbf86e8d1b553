"""Errors as a share of the target."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lenvm.errors import InputError
from lenvm.losses.base import AbstractLoss


@dataclass(frozen=True, kw_only=True)
class RelativeError(AbstractLoss):
    """`((prediction - target) / max(|target|, floor))**2`: short completions count as much as long ones.

    Args:
        floor: smallest denominator, in units of the target. The published code takes 1 - gamma for values and 1 for
            lengths, which are the targets of one remaining token.
    """

    floor: float = 0.01

    def __post_init__(self) -> None:
        if not self.floor > 0:
            raise InputError(f"`floor` must be positive, got {self.floor!r}.")

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target) / target.abs().clamp_min(self.floor)).square()

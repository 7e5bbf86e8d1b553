"""Squared near zero, absolute beyond."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from lenvm.errors import InputError
from lenvm.losses.base import AbstractLoss


@dataclass(frozen=True, kw_only=True)
class Huber(AbstractLoss):
    """`0.5 * error**2` up to `delta`, `delta * (|error| - 0.5 * delta)` beyond.

    Args:
        delta: where the loss turns linear, in units of the target. The published code has 1, which on values in
            (-1, 0) never turns linear.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise InputError(f"`delta` must be positive, got {self.delta!r}.")

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(prediction, target, reduction="none", delta=self.delta)

"""What a length target is: the space in which remaining length is regressed, and the exact way back to a length.

A target owns its activation and its inverse, because the way back is only exact from the logit: `log(1 + V)` of a
value that was rounded to float32 is off by more than half a token from about 1,200 tokens at gamma 0.99, while the
logit holds to 0.01 token at 32,768 (bfloat16: 2 %). So `decode` takes logits, never values.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class LengthSummary:
    """What a target may learn from the training completions before training starts.

    Args:
        gamma: the discount factor that fits them (`lenvm.returns.gamma_from_lengths`).
        max_length: the longest of them, in tokens.
        min_length: the shortest of them, in tokens.
    """

    gamma: float
    max_length: int
    min_length: int = 1


class AbstractLengthTarget(ABC):
    """Maps the remaining length to a regression target and a logit back to a length.

    `remaining` is the number of completion tokens still to come after a state, EOS included; the terminal state has 0.
    All methods work elementwise on tensors of any shape and compute in float32 or better.

    Decoding a *mean* of a concave transform underestimates the mean length (Jensen; paper appendix F): a model that
    regresses a bounded return predicts the return-consistent length, not the average one.
    """

    @abstractmethod
    def encode(self, remaining: Tensor) -> Tensor:
        """The regression target of a remaining length."""

    @abstractmethod
    def predict(self, logits: Tensor) -> Tensor:
        """A head's logits in target space: the target's activation."""

    @abstractmethod
    def decode(self, logits: Tensor) -> Tensor:
        """The remaining length, in tokens, that logits stand for."""

    @abstractmethod
    def logits(self, remaining: Tensor) -> Tensor:
        """The logits that `decode` to a remaining length: its exact inverse (-inf at 0 tokens)."""

    @property
    @abstractmethod
    def reference_gamma(self) -> float | None:
        """The discount factor this target is made with; None for a target without one."""

    @abstractmethod
    def calibrated(self, lengths: LengthSummary) -> Self:
        """This target with every parameter that was left open set from the training data."""

    @abstractmethod
    def regression_target(self, predictions: Tensor, remaining: Tensor, trajectories: Tensor) -> Tensor:
        """What the loss compares predictions with; `encode(remaining)` for all but bootstrapped targets.

        Args:
            predictions: `predict(logits)` of the states; (N,), the states of one completion side by side.
            remaining: (N,).
            trajectories: which completion a state belongs to; (N,).
        """

    def horizon(self, logits: Tensor, gamma: float) -> Tensor:
        """`1 - gamma**remaining` in [0, 1]: larger means longer. Any target can steer decoding through it."""
        return -torch.expm1(self.decode(logits) * math.log(gamma))


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float64 if it is float64, else in float32: lengths do not survive half precision."""
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def inverse_softplus(x: Tensor) -> Tensor:
    """The z with `softplus(z) = x`, exact near 0 and for large x."""
    return x + torch.log(-torch.expm1(-x))


def exact_softplus(z: Tensor) -> Tensor:
    """`softplus` in float32 or better."""
    return F.softplus(at_least_float32(z))

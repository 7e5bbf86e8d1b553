"""Token average (the paper's) and trajectory average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lenvm.losses.base import AbstractWeighting


@dataclass(frozen=True, kw_only=True)
class TokenMean(AbstractWeighting):
    """Every supervised state counts the same (paper Eq. 9)."""

    def __call__(self, trajectories: Tensor) -> Tensor:
        return torch.ones_like(trajectories, dtype=torch.float32)


@dataclass(frozen=True, kw_only=True)
class TrajectoryMean(AbstractWeighting):
    """Every completion counts the same: a state of a completion with L supervised states weighs 1/L.

    The weight depends on what follows the state, so the optimum is no longer the conditional mean: it leans towards
    short continuations (paper appendix E). It is here to measure that.
    """

    def __call__(self, trajectories: Tensor) -> Tensor:
        return 1.0 / torch.bincount(trajectories)[trajectories].to(torch.float32)

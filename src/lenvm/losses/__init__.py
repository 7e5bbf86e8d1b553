"""Losses and weightings: what one optimizer step minimises (DESIGN section 3)."""

from lenvm.losses.base import AbstractLoss, AbstractWeighting
from lenvm.losses.huber import Huber
from lenvm.losses.relative import RelativeError
from lenvm.losses.squared_error import SquaredError
from lenvm.losses.weighting import TokenMean, TrajectoryMean

__all__ = [
    "AbstractLoss",
    "AbstractWeighting",
    "Huber",
    "RelativeError",
    "SquaredError",
    "TokenMean",
    "TrajectoryMean",
]

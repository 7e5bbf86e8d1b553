"""What a loss and a weighting are; together they make the objective of one optimizer step.

The objective is `sum(weight * error) / sum(weight)` over the supervised states of the *whole* step: all micro-batches,
all processes. The loss gives the error of each state, the weighting its weight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class AbstractLoss(ABC):
    """Error of a prediction, state by state, in target space."""

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The error of each state; all three of one shape."""


class AbstractWeighting(ABC):
    """How much each supervised state counts."""

    @abstractmethod
    def __call__(self, trajectories: Tensor) -> Tensor:
        """The weight of each state.

        Args:
            trajectories: which completion of the batch a state belongs to; (N,), integer.

        Returns:
            Weights, (N,), float32.
        """

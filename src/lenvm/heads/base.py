"""What a head is: hidden states in, raw outputs out, with its own loss and its own way to a length.

The rest of the library asks a head only for these three things, so a head may return one logit per state (the paper's),
logits for every next token, or a distribution over lengths, and be trained by whatever loss fits that output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from lenvm.losses.base import AbstractLoss
from lenvm.states import SupervisedStates
from lenvm.targets.base import AbstractLengthTarget


class AbstractHead(nn.Module, ABC):
    """Maps hidden states (..., hidden_size) to raw outputs (..., *).

    A head's constructor takes `hidden_size` first; everything else has a default, so that YAML names a head by its
    class path and only the options that differ.
    """

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The constructor arguments besides `hidden_size`, to write the head into a model's config.json."""

    @abstractmethod
    def forward(self, hidden: Tensor) -> Tensor:
        """Raw outputs of the states: (..., hidden_size) to (..., *)."""

    @abstractmethod
    def state_losses(
        self, raw: Tensor, states: SupervisedStates, target: AbstractLengthTarget, loss: AbstractLoss
    ) -> Tensor:
        """The loss of each supervised state, before weighting: raw outputs (N, *) to (N,)."""

    @abstractmethod
    def remaining(self, raw: Tensor, target: AbstractLengthTarget) -> Tensor:
        """The predicted remaining length, in tokens: (..., *) to (...)."""

    @abstractmethod
    def horizon(self, raw: Tensor, target: AbstractLengthTarget, gamma: float) -> Tensor:
        """The predicted horizon `1 - gamma**remaining`: (..., *) to (...)."""


class AbstractStateHead(AbstractHead):
    """A head with one logit per state; the target gives it a meaning, the injected loss compares it."""

    def state_losses(
        self, raw: Tensor, states: SupervisedStates, target: AbstractLengthTarget, loss: AbstractLoss
    ) -> Tensor:
        prediction = target.predict(raw)
        return loss(prediction, target.regression_target(prediction, states.remaining, states.trajectory))

    def remaining(self, raw: Tensor, target: AbstractLengthTarget) -> Tensor:
        return target.decode(raw)

    def horizon(self, raw: Tensor, target: AbstractLengthTarget, gamma: float) -> Tensor:
        return target.horizon(raw, gamma)

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

    def set_vocab_size(self, vocab_size: int) -> None:
        """Learns how many token ids there are, once it stands on a backbone; most heads have no use for it."""
        del vocab_size

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


class AbstractActionHead(AbstractHead):
    """A head that also says, from one hidden state, what remains after *each next token*, without reading that token.

    Its raw output of a state holds whatever that takes, of a size that does not grow with the vocabulary; only the
    candidates that are asked for are computed. `remaining` and `horizon` are those of the state itself.

    After an end-of-text token nothing remains, by definition. A head need not know which tokens those are: it is not
    trained on them, what it says of them means nothing, and who asks takes 0 for them.
    """

    @abstractmethod
    def next_logits(self, raw: Tensor, candidate_ids: Tensor) -> Tensor:
        """Logits of the states after each candidate, with the meaning that the target gives to a state's logit.

        Args:
            raw: raw outputs of the states; (..., R).
            candidate_ids: ids of possible next tokens; (..., K).

        Returns:
            (..., K), float32 or better.
        """

    def next_remaining(self, raw: Tensor, candidate_ids: Tensor, target: AbstractLengthTarget) -> Tensor:
        """The remaining length, in tokens, after each candidate has been written: (..., R), (..., K) to (..., K)."""
        return target.decode(self.next_logits(raw, candidate_ids))

    def next_horizon(self, raw: Tensor, candidate_ids: Tensor, target: AbstractLengthTarget, gamma: float) -> Tensor:
        """`1 - gamma**remaining` after each candidate has been written: (..., R), (..., K) to (..., K)."""
        return target.horizon(self.next_logits(raw, candidate_ids), gamma)

    def next_errors(self, raw: Tensor, states: SupervisedStates, target: AbstractLengthTarget) -> Tensor:
        """Absolute errors, in tokens, of what is said of the tokens that really followed.

        Returns:
            (M,), one for each of the M states of which `continues` is true.
        """
        here = self.continues(states)
        predicted = self.next_remaining(raw[here], states.next_ids[here, None], target).squeeze(-1)
        return (predicted - (states.remaining[here] - 1)).abs()

    @staticmethod
    def continues(states: SupervisedStates) -> Tensor:
        """Which states have a next token that does not end the completion: what an action is learned from; (N,)."""
        return (states.next_ids >= 0) & (states.remaining > 1)

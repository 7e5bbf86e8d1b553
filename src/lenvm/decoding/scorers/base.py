"""What a scorer is: the predicted remaining length after each candidate, for all rows at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from lenvm.models import LengthValueModel

SHORTEST = 1e-9
"""Least remaining length, in tokens, of a candidate that does not end the completion: 0 would say that it does."""


class AbstractScoring(ABC):
    """A scorer at work on one batch: it follows the rows token by token.

    At each step the decoding loop calls `observe`, `remaining` and `advance` once, in this order, and `keep` when rows
    leave.
    """

    def observe(self, hidden: Tensor) -> None:
        """Sees the generator's own last hidden states, (B, hidden_size); only a shared backbone looks."""
        del hidden

    @abstractmethod
    def remaining(self, ids: Tensor, scored: Tensor) -> Tensor:
        """Predicted number of tokens after each candidate, EOS included.

        Args:
            ids: candidates; (B, K).
            scored: which of them to score, none of them end-of-text; (B, K). One that is chosen later must be among
                them, unless it ends its row.

        Returns:
            (B, K), float64 where the device has it; 0 where nothing was asked, and positive everywhere else.
        """

    @abstractmethod
    def advance(self, ids: Tensor, choice: Tensor) -> None:
        """Takes the chosen candidate of each row.

        Args:
            ids: the chosen tokens; (B,).
            choice: their columns among the candidates; (B,).
        """

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Drops all rows but these."""


class AbstractScorer(ABC):
    """Builds an `AbstractScoring` for each batch."""

    @abstractmethod
    def check(self, model: LengthValueModel) -> None:
        """Makes sure that the model can be scored this way.

        Raises:
            InputError: if it cannot.
        """

    @abstractmethod
    def start(self, model: LengthValueModel, prompts: Sequence[Sequence[int]], place: Tensor) -> AbstractScoring:
        """Reads the prompts of a batch, once each.

        Args:
            model: the length value model.
            prompts: token ids of each prompt.
            place: the prompt of each row; (B,).
        """

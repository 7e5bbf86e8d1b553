"""The smallest head."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lenvm.heads.base import AbstractStateHead


class LinearHead(AbstractStateHead):
    """One linear map from the hidden state to the logit.

    Args:
        hidden_size: width of the hidden states.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.output = nn.Linear(hidden_size, 1)

    @property
    def options(self) -> dict[str, Any]:
        return {}

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits: (..., hidden_size) to (...)."""
        logits: Tensor = self.output(hidden)
        return logits.squeeze(-1)

"""The paper's head."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lenvm.heads.base import AbstractStateHead


class MLPHead(AbstractStateHead):
    """Linear, SiLU, Linear: `z = W2 SiLU(W1 h + b1) + b2` (paper Eq. 7).

    Args:
        hidden_size: width of the hidden states.
        width: width of the inner layer; left out, `hidden_size`.
    """

    def __init__(self, hidden_size: int, width: int | None = None) -> None:
        super().__init__()
        self.width = width
        inner = width or hidden_size
        self.layers = nn.Sequential(nn.Linear(hidden_size, inner), nn.SiLU(), nn.Linear(inner, 1))

    @property
    def options(self) -> dict[str, Any]:
        return {"width": self.width}

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits: (..., hidden_size) to (...)."""
        logits: Tensor = self.layers(hidden)
        return logits.squeeze(-1)

"""A rule only where the generator hesitates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lenvm.decoding.precision import finest_float
from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.parameters import check_range, per_row


@dataclass(frozen=True, kw_only=True)
class EntropyGate(AbstractRule):
    """Leaves rows alone whose entropy over the candidates is at most a threshold; they are not scored either.

    The entropy is that of the candidates after filtering, -sum p log p. The paper does not describe it; the authors'
    code has it as `value_entropy_threshold`. A gated rule keeps no promise at the tokens that the generator is sure
    of: an end of text that comes too early is not held back there.

    Args:
        rule: the rule for the other rows.
        threshold: in nats; 0 leaves alone only what has a single outcome. A number for all rows, or one per row.
    """

    rule: AbstractRule
    threshold: float | list[float]

    def __post_init__(self) -> None:
        check_range("threshold", self.threshold, 0.0, float("inf"), "0 or a positive number of nats")

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        new = self.rule(log_probs, horizons, mask, generated, gamma)
        return torch.where(self._open(log_probs, mask)[:, None], new, log_probs)

    def wants(self, log_probs: Tensor, mask: Tensor, generated: Tensor) -> Tensor:
        return self.rule.wants(log_probs, mask, generated) & self._open(log_probs, mask)

    def _open(self, log_probs: Tensor, mask: Tensor) -> Tensor:
        """Rows above the threshold; (B,)."""
        log_p = log_probs.to(finest_float(log_probs.device))
        entropy = -torch.where(mask & (log_p > -torch.inf), log_p.exp() * log_p, 0.0).sum(-1)
        return entropy > per_row(self.threshold, log_p)

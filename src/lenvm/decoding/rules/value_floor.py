"""A rule only where much is still to come."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.distribution import offer
from lenvm.decoding.rules.parameters import check_range, per_row


@dataclass(frozen=True, kw_only=True)
class ValueFloor(AbstractRule):
    """Leaves rows alone whose expected horizon under the generator, E[u], is below a minimum.

    The paper does not describe it; the authors' code has it as `value_min`, on one of its two paths.

    Args:
        rule: the rule for the other rows.
        minimum: horizon in [0, 1]; 0 leaves no row alone. A number for all rows, or one per row.
    """

    rule: AbstractRule
    minimum: float | list[float]

    def __post_init__(self) -> None:
        check_range("minimum", self.minimum, 0.0, 1.0, "a horizon in [0, 1]")

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        expected = offer(log_probs, horizons, mask).expected
        new = self.rule(log_probs, horizons, mask, generated, gamma)
        return torch.where((expected >= per_row(self.minimum, expected))[:, None], new, log_probs)

    def wants(self, log_probs: Tensor, mask: Tensor, generated: Tensor) -> Tensor:
        return self.rule.wants(log_probs, mask, generated)

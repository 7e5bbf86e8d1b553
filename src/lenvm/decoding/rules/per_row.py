"""Different rules in one batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.parameters import per_row
from lenvm.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PerRow(AbstractRule):
    """Applies to each row of a batch the rule that belongs to it.

    Every rule sees the whole batch, so the cost grows with the number of rules. Where only numbers differ, one rule
    with a list of them is cheaper.

    Args:
        rules: the rules; their own per-row parameters are for all rows of the batch.
        which: for each row, the number of its rule, counted from 0.
    """

    rules: list[AbstractRule]
    which: list[int]

    def __post_init__(self) -> None:
        if not self.rules:
            raise InputError("`rules` is empty; give at least one rule.")
        which = torch.as_tensor(self.which)
        if which.dim() != 1 or not ((which >= 0) & (which < len(self.rules))).all():
            raise InputError(
                f"`which` must name one of the {len(self.rules)} rules for each row, from 0 to {len(self.rules) - 1}, "
                f"got {self.which!r}."
            )

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        chosen = log_probs
        for number, rule in enumerate(self.rules):
            new = rule(log_probs, horizons, mask, generated, gamma)
            chosen = torch.where(self._has(number, generated)[:, None], new, chosen)
        return chosen

    def wants(self, log_probs: Tensor, mask: Tensor, generated: Tensor) -> Tensor:
        wanted = torch.zeros_like(mask[:, 0])
        for number, rule in enumerate(self.rules):
            wanted = torch.where(self._has(number, generated), rule.wants(log_probs, mask, generated), wanted)
        return wanted

    def for_rows(self, index: Tensor) -> Self:
        selected = super().for_rows(index)
        used, which = torch.unique(torch.as_tensor(selected.which), return_inverse=True)
        left = [selected.rules[i] for i in used.tolist()] or selected.rules[:1]
        return replace(selected, rules=left, which=which)

    def _has(self, number: int, generated: Tensor) -> Tensor:
        """The rows that a rule belongs to; (B,)."""
        return per_row(self.which, generated) == number

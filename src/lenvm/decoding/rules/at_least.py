"""Completions of at least a given length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from lenvm.decoding.rules.at_most import LimitMode
from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.distribution import horizon_of, left_after, offer
from lenvm.decoding.rules.parameters import check_choice, check_range, check_reachable, check_tokens, per_row
from lenvm.decoding.rules.solve import solve_tilt, tilted


@dataclass(frozen=True, kw_only=True)
class AtLeast(AbstractRule):
    """Writes completions of at least n tokens. Once n are reached, nothing is changed, and nothing is scored.

    `hard`, the published rule (paper section 4.2, At Least), takes the candidate with the largest horizon; ties go to
    the more probable. The authors' code takes the smallest one once n is reached, so as to end there.

    `minimal` takes all probability from the end of text while it would come too early (t + 1 < n), if there is another
    candidate. If what is left expects too little, E[u] < 1 - gamma**(r (1 + margin)) with r = n - (t + 1) tokens left
    after the candidate, it is tilted just enough to expect that much, as far as beta <= max_beta allows.

    Args:
        n: fewest tokens that the completion shall have, EOS included. A number for all rows, or one per row.
        mode: `minimal` or `hard`.
        margin: for `minimal`: share of the tokens left to aim beyond. The model predicts a mean, which about half of
            the completions fall short of.
        max_beta: for `minimal`: strongest tilt, per unit of horizon.
    """

    n: int | list[int]
    mode: LimitMode = "minimal"
    margin: float = 0.1
    max_beta: float = 20.0

    def __post_init__(self) -> None:
        check_tokens(self.n)
        check_choice("mode", self.mode, get_args(LimitMode))
        check_range("margin", self.margin, 0.0, float("inf"), "0 or a positive number")
        check_range("max_beta", self.max_beta, 0.0, float("inf"), "0 or a positive number")

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        offered = offer(log_probs, horizons, mask)
        early = self._early(generated)
        if self.mode == "hard":
            new = offered.nearest(-offered.horizons)
            return torch.where(early[:, None], new.to(log_probs.dtype), log_probs)
        kept = offered.without(offered.ends)
        left = left_after(self.n, generated, offered.log_probs)
        aim = horizon_of(left * (1 + self.margin), gamma)
        short = early & (kept.expected < aim)
        # a target below every candidate costs the solver nothing
        beta = solve_tilt(*kept, torch.where(short, aim, -1.0), self.max_beta).clamp_min(0.0)
        touched = early & (short | (kept.mask != offered.mask).any(-1))
        return torch.where(touched[:, None], tilted(*kept, beta).to(log_probs.dtype), log_probs)

    def wants(self, log_probs: Tensor, mask: Tensor, generated: Tensor) -> Tensor:
        return super().wants(log_probs, mask, generated) & self._early(generated)

    def check(self, shortest: int | None, longest_possible: int) -> None:
        check_reachable(self.n, shortest, longest_possible)

    def _early(self, generated: Tensor) -> Tensor:
        """Rows in which a completion that ended with the next token would be too short; (B,)."""
        return generated + 1 < per_row(self.n, generated)

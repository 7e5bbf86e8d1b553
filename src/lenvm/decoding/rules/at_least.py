"""Completions of at least a given length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from lenvm.decoding.rules.at_most import LimitMode
from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.chance import chance_of_reaching, check_spread, conditioned, in_danger, shortfall
from lenvm.decoding.rules.distribution import offer
from lenvm.decoding.rules.parameters import check_choice, check_reachable, check_tokens, per_row


@dataclass(frozen=True, kw_only=True)
class AtLeast(AbstractRule):
    """Writes completions of at least n tokens. Once n are reached, nothing is changed, and nothing is scored.

    `hard`, the published rule (paper section 4.2, At Least), takes the candidate with the largest horizon; ties go to
    the more probable. The authors' code takes the smallest one once n is reached, so as to end there.

    `minimal` is the generator conditioned on reaching n: p'(x) ~ p(x) P(-z(x)), where P is the normal distribution and
    z(x) = log((r + near) / (len(u_x) + near)) / spread, r = n - (t + 1) tokens left after the candidate; an end of text
    that would come too early has no probability, if there is another candidate (`lenvm.decoding.rules.chance`; not in
    the paper). Where n is reached with a chance of 99 % anyway, nothing is changed.

    Args:
        n: fewest tokens that the completion shall have, EOS included. A number for all rows, or one per row.
        mode: `minimal` or `hard`.
        spread: for `minimal`: how far, as a share of it, the remaining length strays from the predicted one. Smaller
            trusts the value model more.
        near: for `minimal`: tokens below which lengths are not told apart.
    """

    n: int | list[int]
    mode: LimitMode = "minimal"
    spread: float = 0.25
    near: float = 4.0

    def __post_init__(self) -> None:
        check_tokens(self.n)
        check_choice("mode", self.mode, get_args(LimitMode))
        check_spread(self.spread, self.near)

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        offered = offer(log_probs, horizons, mask)
        early = self._early(generated)
        if self.mode == "hard":
            new = offered.nearest(-offered.horizons)
        else:
            missed = shortfall(offered, generated, gamma, self.n, self.spread, self.near)
            chance = chance_of_reaching(missed, offered.ends)
            early = early & (in_danger(offered, chance) | offered.ends.any(-1))
            # a row that offers nothing but the end has to take it
            new = conditioned(offered.without(offered.ends), chance.clamp_min(torch.finfo(chance.dtype).min))
        return torch.where(early[:, None], new.to(log_probs.dtype), log_probs)

    def wants(self, log_probs: Tensor, mask: Tensor, generated: Tensor) -> Tensor:
        return super().wants(log_probs, mask, generated) & self._early(generated)

    def check(self, shortest: int | None, longest_possible: int) -> None:
        check_reachable(self.n, shortest, longest_possible)

    def _early(self, generated: Tensor) -> Tensor:
        """Rows in which a completion that ended with the next token would be too short; (B,)."""
        return generated + 1 < per_row(self.n, generated)

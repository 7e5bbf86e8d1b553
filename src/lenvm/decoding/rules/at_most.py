"""Completions of at most a given length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.chance import chance_of_keeping, check_spread, conditioned, in_danger, shortfall
from lenvm.decoding.rules.distribution import offer
from lenvm.decoding.rules.parameters import check_choice, check_reachable, check_tokens

LimitMode = Literal["minimal", "hard"]


@dataclass(frozen=True, kw_only=True)
class AtMost(AbstractRule):
    """Writes completions of at most n tokens.

    `hard`, the published rule (paper section 4.2, At Most), always takes the candidate with the smallest horizon; ties
    go to the more probable.

    `minimal` is the generator conditioned on the limit: p'(x) ~ p(x) P(z(x)), where P is the normal distribution and
    z(x) = log((r + near) / (len(u_x) + near)) / spread, r = max(n - (t + 1), 0) tokens left after the candidate
    (`lenvm.decoding.rules.chance`; not in the paper). Where the limit is kept with a chance of 99 % anyway, nothing is
    changed. No token is forced: a completion is cut short only where the generator offers an end.

    Args:
        n: most tokens that the completion shall have, EOS included. A number for all rows, or one per row.
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
        if self.mode == "hard":
            return offered.nearest(offered.horizons).to(log_probs.dtype)
        missed = shortfall(offered, generated, gamma, self.n, self.spread, self.near)
        chance = chance_of_keeping(missed, offered.ends)
        new = conditioned(offered, chance).to(log_probs.dtype)
        return torch.where(in_danger(offered, chance)[:, None], new, log_probs)

    def check(self, shortest: int | None, longest_possible: int) -> None:
        check_reachable(self.n, shortest, longest_possible)

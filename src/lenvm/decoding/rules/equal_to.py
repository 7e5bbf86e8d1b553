"""Completions of a given length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.chance import chance_of_landing, check_spread, conditioned, shortfall
from lenvm.decoding.rules.distribution import horizon_of, left_after, length_of, offer
from lenvm.decoding.rules.parameters import check_choice, check_reachable, check_tokens

EqualToMode = Literal["smooth", "hard"]
Compare = Literal["value", "length"]


@dataclass(frozen=True, kw_only=True)
class EqualTo(AbstractRule):
    """Writes completions of n tokens.

    `hard`, the published rule (paper section 4.2, Equal To), takes the candidate whose horizon is nearest to 1 -
    gamma**r, r = max(n - (t + 1), 0) tokens left after it; ties go to the more probable, then to the first. What the
    generator finds probable plays no other part. The authors' code compares lengths, and with the tokens left *before*
    the candidate: its target T is n = T + 1 here.

    `smooth` is the generator conditioned on landing at n: p'(x) ~ p(x) exp(-z(x)**2 / 2) with z(x) = log((r + near) /
    (len(u_x) + near)) / spread, with an exponential tail (`lenvm.decoding.rules.chance` says why). Not in the paper.

    Args:
        n: tokens that the completion shall have, EOS included. A number for all rows, or one per row.
        mode: `smooth` or `hard`.
        compare: for `hard`: the distance of horizons (`value`, the paper) or of lengths (`length`, the authors' code).
        spread: for `smooth`: how far, as a share of it, the remaining length strays from the predicted one. Smaller
            steers harder, at the cost of likelihood.
        near: for `smooth`: tokens below which lengths are not told apart.
    """

    n: int | list[int]
    mode: EqualToMode = "smooth"
    compare: Compare = "value"
    spread: float = 0.2
    near: float = 4.0

    def __post_init__(self) -> None:
        check_tokens(self.n)
        check_choice("mode", self.mode, get_args(EqualToMode))
        check_choice("compare", self.compare, get_args(Compare))
        check_spread(self.spread, self.near)

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        offered = offer(log_probs, horizons, mask)
        if self.mode == "smooth":
            missed = shortfall(offered, generated, gamma, self.n, self.spread, self.near)
            return conditioned(offered, chance_of_landing(missed, offered.ends)).to(log_probs.dtype)
        left = left_after(self.n, generated, offered.log_probs)[:, None]
        if self.compare == "length":
            distance = length_of(offered.horizons, gamma) - left
        else:
            distance = offered.horizons - horizon_of(left, gamma)
        return offered.nearest(distance.abs()).to(log_probs.dtype)

    def check(self, shortest: int | None, longest_possible: int) -> None:
        check_reachable(self.n, shortest, longest_possible)

"""The target's horizon in expectation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.distribution import horizon_of, left_after, offer
from lenvm.decoding.rules.parameters import check_reachable, check_tokens
from lenvm.decoding.rules.solve import solve_tilt, tilted


@dataclass(frozen=True, kw_only=True)
class MatchHorizon(AbstractRule):
    """The distribution closest to p in KL divergence that expects the horizon of the tokens left.

    p'(x) ~ p(x) exp(beta * u(x)), with beta such that E'[u] = 1 - gamma**r, r = max(n - (t + 1), 0) tokens left after
    candidate x. Where no distribution over the candidates expects it, all probability is on the shortest or longest of
    them. Paper Eq. 11-12, with the expectation given instead of beta; `eq_soft` of the authors' code, which counts the
    tokens left before x.

    Args:
        n: tokens that the completion shall have, EOS included. A number for all rows, or one per row.
    """

    n: int | list[int]

    def __post_init__(self) -> None:
        check_tokens(self.n)

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        offered = offer(log_probs, horizons, mask)
        target = horizon_of(left_after(self.n, generated, offered.log_probs), gamma)
        return tilted(*offered, solve_tilt(*offered, target)).to(log_probs.dtype)

    def check(self, shortest: int | None, longest_possible: int) -> None:
        check_reachable(self.n, shortest, longest_possible)

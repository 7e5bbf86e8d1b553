"""Completions of at most a given length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.distribution import horizon_of, left_after, offer
from lenvm.decoding.rules.parameters import check_choice, check_range, check_reachable, check_tokens
from lenvm.decoding.rules.solve import solve_tilt, tilted

LimitMode = Literal["minimal", "hard"]


@dataclass(frozen=True, kw_only=True)
class AtMost(AbstractRule):
    """Writes completions of at most n tokens.

    `hard`, the published rule (paper section 4.2, At Most), always takes the candidate with the smallest horizon; ties
    go to the more probable.

    `minimal` changes nothing while the generator expects to stay within the limit: E[u] <= 1 - gamma**(r (1 -
    margin)), r = max(n - (t + 1), 0) tokens left after the candidate. Where it expects more, the distribution is
    tilted just enough to expect that much (the closest one in KL divergence that does); where even that is out of
    reach, all probability is on the shortest candidates. No token is forced: a completion is cut short only where the
    generator offers an end.

    Args:
        n: most tokens that the completion shall have, EOS included. A number for all rows, or one per row.
        mode: `minimal` or `hard`.
        margin: for `minimal`: share of the tokens left to keep in reserve. The model predicts a mean, which about half
            of the completions exceed.
    """

    n: int | list[int]
    mode: LimitMode = "minimal"
    margin: float = 0.1

    def __post_init__(self) -> None:
        check_tokens(self.n)
        check_choice("mode", self.mode, get_args(LimitMode))
        check_range("margin", self.margin, 0.0, 1.0, "in [0, 1]")

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        offered = offer(log_probs, horizons, mask)
        if self.mode == "hard":
            return offered.nearest(offered.horizons).to(log_probs.dtype)
        left = left_after(self.n, generated, offered.log_probs)
        budget = horizon_of(left * (1 - self.margin), gamma)
        exceeds = offered.expected > budget
        # a target below every candidate costs the solver nothing
        beta = solve_tilt(*offered, torch.where(exceeds, budget, -1.0))
        return torch.where(exceeds[:, None], tilted(*offered, beta).to(log_probs.dtype), log_probs)

    def check(self, shortest: int | None, longest_possible: int) -> None:
        check_reachable(self.n, shortest, longest_possible)

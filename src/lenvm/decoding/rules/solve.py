"""Exponential tilting p'(x) ~ p(x) exp(beta u(x)), and the beta for which the expected horizon is a given one.

Among all distributions with that expectation, the tilted one is closest to p in KL divergence (paper Eq. 11-12 and
appendix G, with the positive horizon u = -V in place of V).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lenvm.decoding.rules.distribution import range_of

_REACHABLE = 1e-9
"""Share of the candidates' range at either end that counts as the end itself."""
_TOLERANCE = 1e-8
"""Missing log-odds that count as none; the expected horizon then misses by a quarter of it, times the range."""
_STEPS = 3
"""Steps of a round; after it, solved rows leave."""
_ROUNDS = 60
_REACH = 64.0
"""Longest step of the first round, in units of the missing log-odds; its power in later rounds."""
_NEVER = 1e30


def tilted(log_probs: Tensor, horizons: Tensor, mask: Tensor, beta: Tensor) -> Tensor:
    """`log p'` with p'(x) ~ p(x) exp(beta u(x)) over the candidates.

    Args:
        log_probs: log p; (B, K).
        horizons: u; (B, K).
        mask: where there is a candidate; (B, K).
        beta: negative shortens, positive lengthens; (B,). At -inf (inf) all probability is on the shortest (longest)
            candidates, shared in proportion to p.

    Returns:
        (B, K), rows normalised, -inf outside the mask.
    """
    low, high = range_of(horizons, mask)
    from_end = horizons - torch.where(beta > 0, high, low)[:, None]
    exponent = torch.where(from_end == 0, 0.0, beta[:, None] * from_end)
    return torch.log_softmax(torch.where(mask, log_probs + exponent, -torch.inf), -1)


def solve_tilt(
    log_probs: Tensor, horizons: Tensor, mask: Tensor, target: Tensor, max_beta: float | None = None
) -> Tensor:
    """The beta for which the tilted distribution expects the target horizon.

    With horizons scaled to w in [0, 1], the log-odds of E[w] are nearly linear in beta, and exactly so for two
    candidates. Halley's method on them needs few steps; a bracket that at least halves every round makes it safe. Rows
    that are solved leave after every round of three steps, with one synchronisation each; others do not enter.

    Args:
        log_probs: log p; (B, K), float64 unless the device has none.
        horizons: u; (B, K), in [0, 1).
        mask: the candidates, all of them with a probability; (B, K).
        target: expected horizon; (B,).
        max_beta: largest |beta|; None for no bound.

    Returns:
        (B,). The expectation is met to 1e-6 in float64. A target at or beyond the end of the candidates' range has beta
        -inf or inf; where all horizons are the same, too.
    """
    low, high = range_of(horizons, mask)
    extent = (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    share = (target - low) / extent
    nearly = max(_REACHABLE, 8 * torch.finfo(low.dtype).eps)
    inside = (share > nearly) & (share < 1 - nearly)
    scaled = torch.where(mask, (horizons - low[:, None]) / extent[:, None], 0.0)
    goal = torch.logit(torch.where(inside, share, 0.5))
    solved = _solve_log_odds(log_probs, scaled, mask, goal, inside.nonzero().squeeze(-1)) / extent
    beta = torch.where(inside, solved, torch.where(share <= 0.5, -math.inf, math.inf))
    return beta if max_beta is None else beta.clamp(-max_beta, max_beta)


class _Search(NamedTuple):
    """The rows that are still open. Horizons w are scaled to [0, 1]; candidates come first, which sums faster.

    Attributes:
        rows: their numbers; (R,).
        log_probs: (K, R).
        scaled: w; (K, R).
        weights: w, 1 - w, w (1 - w), w^2 (1 - w), and 0 where there is no candidate; (4, K, R).
        goal: wanted log-odds of E[w]; (R,).
        beta: newest guess; (R,).
        low: a beta that is too small; (R,).
        high: a beta that is too large; (R,).
        width: `high - low` a round ago; (R,).
        missed: how far the log-odds were from the goal a round ago; (R,).
    """

    rows: Tensor
    log_probs: Tensor
    scaled: Tensor
    weights: Tensor
    goal: Tensor
    beta: Tensor
    low: Tensor
    high: Tensor
    width: Tensor
    missed: Tensor


def _solve_log_odds(log_probs: Tensor, scaled: Tensor, mask: Tensor, goal: Tensor, rows: Tensor) -> Tensor:
    """The beta with `logit(E[w]) = goal` for horizons w in [0, 1]; (B,), 0 in all but the given rows."""
    answer = torch.zeros_like(goal)
    if not len(rows):
        return answer
    w = scaled[rows].T.contiguous()
    complement = torch.where(mask[rows].T, 1 - w, 0.0)
    spread = w * complement
    weights = torch.stack([w, complement, spread, spread * w])
    tolerance = max(_TOLERANCE, 1e3 * torch.finfo(goal.dtype).eps)
    goal, beta = goal[rows], answer[rows]
    never = torch.full_like(goal, _NEVER)
    search = _Search(rows, log_probs[rows].T.contiguous(), w, weights, goal, beta, -never, never, never, never)
    for number in range(_ROUNDS):
        search, left = _round(search, reach=_REACH ** (number + 1))
        answer = answer.index_copy(0, search.rows, search.beta)
        index = (left > tolerance).nonzero().squeeze(-1)
        if not len(index):
            break
        search = _Search(*(part.index_select(-1, index) for part in search))
    return answer


def _round(search: _Search, reach: float) -> tuple[_Search, Tensor]:
    """A few steps of Halley's method inside the bracket; where they brought little, the bracket is halved.

    Returns:
        The search after them, and how far its log-odds are from the goal at most; (R,).
    """
    beta, low, high, missed = search.beta, search.low, search.high, search.missed
    for _ in range(_STEPS):
        short, step = _halley(search, beta, reach)
        up = short > 0
        low, high = torch.where(up, beta, low), torch.where(up, high, beta)
        moved = beta + step
        beta = torch.where((moved >= low) & (moved <= high), moved, torch.lerp(low, high, 0.5))
        before, missed = missed, short.abs()
    width = high - low
    stuck = (width > 0.5 * search.width) & (width < _NEVER) & (missed > 0.1 * search.missed)
    beta = torch.where(stuck, _middle(low, high), beta)
    # the last step is not measured; it shrinks what is missing at least as much as the one before (0 / 0: all is done)
    left = missed * (missed / before).clamp_max(1.0)
    return search._replace(beta=beta, low=low, high=high, width=width, missed=missed), left


def _halley(search: _Search, beta: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """How far the log-odds are from the goal, and the step of Halley's method towards it; (R,) both.

    With sums over tilted weights e, S1 = sum(e w) and S2 = sum(e (1-w)), the log-odds are log(S1/S2); their derivatives
    follow from sum(e w (1-w)) and sum(e w^2 (1-w)). Slopes are at most 1, so a step of the missing log-odds is always
    too short; `reach` times as many is the longest that is trusted on a flat stretch.
    """
    exponent = torch.addcmul(search.log_probs, beta, search.scaled)
    exponent -= exponent.amax(0)
    # the floor keeps both sums positive, and is far below what decides a reachable goal
    upper, lower, second, third = (search.weights * exponent.clamp_min_(-80.0).exp_()).sum(1).unbind()
    short = search.goal - torch.log(upper / lower)
    first = second / upper
    second = second / lower
    both = first + second
    slope = (1 - both).clamp_min_(1e-9)
    curvature = torch.addcmul(first - third / upper - third / lower, first - second, both, value=-1)
    ratio = torch.addcdiv(slope, short * curvature, slope, value=0.5).div_(slope).clamp_(0.3, 4.0)
    return short, short / slope.mul_(ratio).clamp_min_(1 / reach)


def _middle(low: Tensor, high: Tensor) -> Tensor:
    """The middle of brackets: the geometric one where the ends differ in scale."""
    product = low * high
    apart = (product > 0) & ((high - low) ** 2 > 16 * product)
    return torch.where(apart, torch.copysign(product.abs().sqrt(), high), 0.5 * (low + high))

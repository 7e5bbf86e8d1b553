"""The chance that a completion meets its target, candidate by candidate, and the generator conditioned on it.

A value model is wrong by a share of what it predicts. So the true remaining length after candidate x is taken to be
spread log-normally around the predicted one, and with r = max(n - (t + 1), 0) tokens left for it,

    z(x) = log((r + near) / (len(u_x) + near)) / spread

says by how many standard deviations x is short of the target (negative: beyond it). By Bayes' rule, p'(x) ~ p(x)
P(target is met | x) is the generator among the completions that meet the target: of all distributions that do, the
closest one in KL divergence. It is soft while lengths are uncertain and firm near the end, and unlike a tilt that
matches an expectation it does not mix continuations that are too short with others that are too long. Not in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lenvm.decoding.rules.distribution import Offer, left_after, length_of
from lenvm.decoding.rules.parameters import Numbers, check_range

_SAFE = 0.99
"""A target that is met with this chance anyway needs no help."""
_TAIL = 1.5
"""Standard deviations from which on the chance to land falls exponentially."""


def shortfall(offered: Offer, generated: Tensor, gamma: float, n: Numbers, spread: float, near: float) -> Tensor:
    """z(x), in standard deviations: positive where a candidate is predicted to end before the target; (B, K)."""
    left = left_after(n, generated, offered.log_probs)[:, None]
    return torch.log((left + near) / (length_of(offered.horizons, gamma) + near)) / spread


def chance_of_landing(missed: Tensor, ends: Tensor) -> Tensor:
    """Log of the density on the target, up to a constant: -z**2 / 2, and linear from |z| = 1.5 on.

    Errors of a value model have heavier tails than the normal distribution; with its tails, a completion that is far
    off would be driven into tokens that nobody writes. The length of an end of text is no prediction: it has no tails.
    """
    distance = missed.abs()
    tails = _TAIL * (distance - 0.5 * _TAIL)
    return -torch.where(ends | (distance < _TAIL), 0.5 * distance.square(), tails)


def chance_of_keeping(missed: Tensor, ends: Tensor) -> Tensor:
    """Log of the chance not to exceed the target; an end of text cannot."""
    log_chance: Tensor = torch.special.log_ndtr(missed)
    return log_chance.masked_fill(ends, 0.0)


def chance_of_reaching(missed: Tensor, ends: Tensor) -> Tensor:
    """Log of the chance to reach a target that is still ahead; an end of text has none."""
    log_chance: Tensor = torch.special.log_ndtr(-missed)
    return log_chance.masked_fill(ends, -torch.inf)


def conditioned(offered: Offer, log_chance: Tensor) -> Tensor:
    """The generator among the completions that meet the target.

    Args:
        offered: the candidates.
        log_chance: log P(target is met | candidate); (B, K), finite for at least one candidate of each row.

    Returns:
        Log-probabilities, (B, K), rows normalised.
    """
    return torch.log_softmax((offered.log_probs + log_chance).masked_fill(~offered.mask, -torch.inf), -1)


def in_danger(offered: Offer, log_chance: Tensor) -> Tensor:
    """The rows in which the generator alone would not meet the target with near certainty; (B,), bool."""
    met = (offered.log_probs + log_chance).masked_fill(~offered.mask, -torch.inf).exp().sum(-1)
    return met < _SAFE


def check_spread(spread: float, near: float) -> None:
    """Makes sure that both parameters can be divided by.

    Raises:
        InputError: if one is not positive.
    """
    check_range("spread", spread, 1e-3, float("inf"), "a positive number, at least 0.001")
    check_range("near", near, 1e-3, float("inf"), "a positive number of tokens")

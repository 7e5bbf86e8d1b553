"""How `EqualTo` lands on its target while staying close to the generator."""

from __future__ import annotations

import torch
from torch import Tensor

from lenvm.decoding.rules.distribution import Offer, left_after, length_of
from lenvm.decoding.rules.parameters import Numbers


def land(offered: Offer, generated: Tensor, gamma: float, *, n: Numbers, spread: float, near: float) -> Tensor:
    """The generator's distribution times the chance that the completion ends on target.

    p'(x) ~ p(x) exp(-d(x)**2 / 2),    d(x) = log((len(u_x) + near) / (r + near)) / spread

    with r = max(n - (t + 1), 0) tokens left after x. It is Bayes' rule if the true remaining length is spread
    log-normally around the predicted one: predictions are wrong by a share of what they predict. So it is soft far from
    the end, where lengths are uncertain and candidates differ by little, and firm near it. Unlike a tilt that matches
    an expectation, it does not mix continuations that are too short with others that are too long. An end-of-text token
    is a candidate like the others, of which the length is known.

    Args:
        offered: the candidates.
        generated: completion tokens already written; (B,).
        gamma: discount factor of the horizons.
        n: the target, or one per row.
        spread: standard deviation of the remaining length, as a share of it.
        near: tokens below which lengths are not told apart.

    Returns:
        Log-probabilities, (B, K).
    """
    left = left_after(n, generated, offered.log_probs)[:, None]
    distance = torch.log((length_of(offered.horizons, gamma) + near) / (left + near)) / spread
    scores = offered.log_probs - 0.5 * distance.square()
    return torch.log_softmax(scores.masked_fill(~offered.mask, -torch.inf), -1)

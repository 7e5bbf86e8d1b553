"""What rules are made of: horizons and lengths, expectations, and distributions on a few candidates."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lenvm.decoding.precision import finest_float
from lenvm.decoding.rules.parameters import Numbers, per_row


class Offer(NamedTuple):
    """The candidates of a step in the finest floating type of the device; all (B, K).

    Attributes:
        log_probs: rows normalised, -inf where there is no candidate.
        horizons: `1 - gamma**remaining` after each candidate.
        mask: candidates with a probability.
    """

    log_probs: Tensor
    horizons: Tensor
    mask: Tensor

    @property
    def ends(self) -> Tensor:
        """Where an end-of-text candidate is; (B, K)."""
        return self.mask & (self.horizons == 0)

    @property
    def range(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest horizon of the candidates; (B,) both."""
        return range_of(self.horizons, self.mask)

    @property
    def expected(self) -> Tensor:
        """Expected horizon after the next token; (B,)."""
        return torch.where(self.mask, self.log_probs.exp() * self.horizons, 0.0).sum(-1)

    def without(self, columns: Tensor) -> Offer:
        """The offer without some of its candidates, normalised again; a row that would be left empty keeps all."""
        left = self.mask & ~columns
        mask = torch.where(left.any(-1, keepdim=True), left, self.mask)
        return Offer(torch.log_softmax(self.log_probs.masked_fill(~mask, -torch.inf), -1), self.horizons, mask)

    def nearest(self, distance: Tensor) -> Tensor:
        """All probability on the candidate with the smallest distance; ties go to the more probable, then the first.

        Args:
            distance: (B, K).

        Returns:
            Log-probabilities, (B, K).
        """
        distance = distance.masked_fill(~self.mask, torch.inf)
        tied = self.mask & (distance <= distance.amin(-1, keepdim=True))
        choice = self.log_probs.masked_fill(~tied, -torch.inf).argmax(-1, keepdim=True)
        return torch.full_like(self.log_probs, -torch.inf).scatter_(-1, choice, 0.0)


def offer(log_probs: Tensor, horizons: Tensor, mask: Tensor) -> Offer:
    """The arguments of a rule, ready to compute with."""
    kind = finest_float(log_probs.device)
    mask = mask & (log_probs > -torch.inf)
    return Offer(log_probs.to(kind).masked_fill(~mask, -torch.inf), horizons.to(kind), mask)


def range_of(horizons: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest horizon of the candidates; (B,) both."""
    low = torch.where(mask, horizons, torch.inf).amin(-1)
    return low, torch.where(mask, horizons, -torch.inf).amax(-1)


def left_after(n: Numbers, generated: Tensor, like: Tensor) -> Tensor:
    """Tokens that a target of `n` leaves for after the next one, `max(n - (t + 1), 0)`; (B,), in the type of `like`."""
    return (per_row(n, generated) - (generated + 1)).clamp_min(0).to(like.dtype)


def horizon_of(remaining: Tensor, gamma: float) -> Tensor:
    """`1 - gamma**remaining`."""
    return -torch.expm1(remaining * math.log(gamma))


def length_of(horizons: Tensor, gamma: float) -> Tensor:
    """The remaining length of a horizon: `log(1 - u) / log(gamma)`; a horizon rounded to 1 is the longest below it."""
    return torch.log1p(-horizons.clamp_max(1 - torch.finfo(horizons.dtype).eps)) / math.log(gamma)

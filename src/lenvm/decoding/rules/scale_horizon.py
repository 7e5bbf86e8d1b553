"""A longer or shorter horizon in expectation, relative to the generator's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.distribution import Offer, offer
from lenvm.decoding.rules.parameters import check_choice, check_range, per_row
from lenvm.decoding.rules.solve import solve_tilt, tilted

How = Literal["mul", "linear", "exp", "length_mul"]
_INSET = 1e-6


@dataclass(frozen=True, kw_only=True)
class ScaleHorizon(AbstractRule):
    """Tilts p so that the expected horizon mu = E[u] becomes a scaled one: the authors' expectation guidance.

    With s the scale, [low, high] the candidates' range and n = (mu - low) / (high - low), the expected horizon becomes

    * mul: s mu
    * linear: mu + (s - 1) (high - mu) for s >= 1, else mu - (1 - s) (mu - low)
    * exp: low + (1 - (1 - n)**s) (high - low)
    * length_mul: 1 - (1 - mu)**s, which multiplies the length of mu by s, whatever gamma

    and stays inside the range by a millionth of it. The paper does not describe it; the authors' code calls it
    `value_mode` and `value_scale`. We deviate in two points: the expectation is met (their unbracketed Newton often
    misses it), and `mul` with scale 0 takes the shortest candidate where theirs changes nothing. A scale that asks for
    more than the candidates offer, as `mul` soon does, leaves the end of text next to no probability.

    Args:
        how: what is scaled.
        scale: below 1 shortens, above 1 lengthens, 1 changes nothing; not negative. A number for all rows, or one per
            row.
    """

    how: How = "mul"
    scale: float | list[float] = 1.0

    def __post_init__(self) -> None:
        check_choice("how", self.how, get_args(How))
        check_range("scale", self.scale, 0.0, math.inf, "0 or a positive number (one per row, if it is a list)")

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        offered = offer(log_probs, horizons, mask)
        scale = per_row(self.scale, offered.log_probs).expand(len(log_probs))
        new = tilted(*offered, solve_tilt(*offered, self._target(offered, scale))).to(log_probs.dtype)
        return torch.where((scale == 1)[:, None], log_probs, new)

    def _target(self, offered: Offer, scale: Tensor) -> Tensor:
        """The new expected horizon; (B,)."""
        mean = offered.expected
        low, high = offered.range
        match self.how:
            case "mul":
                target = mean * scale
            case "linear":
                target = mean + (scale - 1) * torch.where(scale >= 1, high - mean, mean - low)
            case "exp":
                place = (mean - low) / (high - low).clamp_min(torch.finfo(mean.dtype).tiny)
                target = low + (1 - (1 - place.clamp(0, 1)) ** scale) * (high - low)
            case "length_mul":
                target = 1 - (1 - mean) ** scale
        inset = _INSET * (high - low)
        return torch.minimum(torch.maximum(target, low + inset), high - inset)

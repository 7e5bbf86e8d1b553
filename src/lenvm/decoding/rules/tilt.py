"""Longer or shorter by a knob."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.distribution import offer
from lenvm.decoding.rules.parameters import check_range, per_row
from lenvm.decoding.rules.solve import tilted


@dataclass(frozen=True, kw_only=True)
class Tilt(AbstractRule):
    """p'(x) ~ p(x) exp(beta * u(x)), u the horizon after candidate x (paper section 4.3, Eq. 12 and 65).

    The paper writes the value where only the horizon u = -V makes beta < 0 shorten; the authors' code has the horizon,
    as here (its `centered_exp`).

    Args:
        beta: negative shortens, positive lengthens, 0 changes nothing; per unit of horizon. A number for all rows, or
            one per row.
    """

    beta: float | list[float]

    def __post_init__(self) -> None:
        check_range("beta", self.beta, -math.inf, math.inf, "finite (one per row, if it is a list)")

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        offered = offer(log_probs, horizons, mask)
        beta = per_row(self.beta, offered.log_probs).expand(len(log_probs))
        return tilted(*offered, beta).to(log_probs.dtype)

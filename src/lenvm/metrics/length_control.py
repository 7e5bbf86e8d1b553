"""How well completions keep to a length that was asked for: LIFEBench's deviation and score (paper Eq. 17 and 18)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Constraint = Literal["equal", "at_most", "at_least"]

_TOO_SHORT = 5.0
_TOO_LONG = 2.0


def length_deviation(length: Tensor, target: Tensor | float) -> Tensor:
    """The signed share by which a completion misses its target (Eq. 17), `(L - N) / N`.

    LIFEBench prints it in percent; here 0.1 is a tenth too long.

    Args:
        length: tokens of each completion, EOS included; any shape.
        target: the length asked for, in tokens; broadcast against `length`.

    Returns:
        float64, in the shape of both.
    """
    return length.to(torch.float64) / target - 1.0


def length_score(length: Tensor, target: Tensor | float, constraint: Constraint) -> Tensor:
    """LIFEBench's length score (Eq. 18), with k1 = 5 and k2 = 2: 100 is perfect, and falls to 0.

        LS = 100 exp( k1 LD)   too short, where `equal` or `at_least` was asked for
             100 exp(-k2 LD)   too long, where `equal` or `at_most` was asked for
             100               otherwise

    Args:
        length: tokens of each completion, EOS included; any shape.
        target: the length asked for, in tokens; broadcast against `length`.
        constraint: what was asked for: `equal`, `at_most` or `at_least`.

    Returns:
        float64 in (0, 100], in the shape of both.
    """
    deviation = length_deviation(length, target)
    exponent = torch.zeros_like(deviation)
    if constraint != "at_most":
        exponent = exponent + _TOO_SHORT * deviation.clamp_max(0.0)
    if constraint != "at_least":
        exponent = exponent - _TOO_LONG * deviation.clamp_min(0.0)
    return 100.0 * exponent.exp()


def meets(length: Tensor, target: Tensor | float, constraint: Constraint) -> Tensor:
    """Whether each completion keeps to the constraint exactly; boolean, in the shape of both."""
    return length_score(length, target, constraint) == 100.0

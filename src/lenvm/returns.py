"""Length as a return: closed forms, lambda-returns, and the discount factor that fits given lengths.

Paper section 3.1: every non-terminal step is rewarded with -(1 - gamma) and the end with 0, so the return of a state
with `n` tokens still to come is `-(1 - gamma**n)` (Eq. 2) and satisfies `G_t = r_t + gamma * G_{t+1}` (Eq. 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lenvm.errors import InputError

_COVERED_QUANTILE = 0.99


def check_gamma(gamma: float) -> float:
    """Returns `gamma` if it is a discount factor, that is, inside (0, 1).

    Raises:
        InputError: if it is not.
    """
    if not (isinstance(gamma, int | float) and 0.0 < gamma < 1.0):
        raise InputError(
            f"`gamma` must lie strictly between 0 and 1, got {gamma!r}; "
            "leave it out, or write `auto`, to take it from the data's 99th percentile length."
        )
    return float(gamma)


def gamma_from_length(length: float) -> float:
    """The gamma for which a completion of `length` tokens has the horizon 0.99.

    DESIGN section 2: `1 - gamma**L99 = 0.99`, with L99 the 99th percentile of the completion lengths.

    Raises:
        InputError: if `length` is not positive.
    """
    if not length > 0:
        raise InputError(f"gamma needs a positive 99th percentile length, got {length}; are the completions empty?")
    return math.pow(1.0 - _COVERED_QUANTILE, 1.0 / length)


def percentile_rank(quantile: float, count: int) -> int:
    """The k for which the k-th smallest of `count` numbers is their percentile: `ceil(quantile * count)`, from 1 on.

    A percentile is thus a number that occurs, and at least `quantile` of all are not above it.
    """
    return max(math.ceil(quantile * count), 1)


def gamma_from_lengths(lengths: Tensor | Sequence[int]) -> float:
    """The gamma that fits completion lengths (any shape, in tokens, EOS counted): see `gamma_from_length`."""
    lengths = torch.as_tensor(lengths, dtype=torch.float64).flatten()
    if lengths.numel() == 0:
        raise InputError("gamma cannot be taken from data without a finished completion; give `gamma` a number.")
    rank = percentile_rank(_COVERED_QUANTILE, lengths.numel())  # torch.quantile refuses more than 16M values
    return gamma_from_length(lengths.kthvalue(rank).values.item())


def covered_length(gamma: float) -> float:
    """The length whose horizon is 0.99: the way back from `gamma_from_length`."""
    return math.log(1.0 - _COVERED_QUANTILE) / math.log(gamma)


def discounted_returns(remaining: Tensor, gamma: float) -> Tensor:
    """`-(1 - gamma**remaining)` (Eq. 2), in `remaining`'s floating type or float32 for integers.

    Args:
        remaining: tokens still to come, EOS included; any shape.
        gamma: discount factor in (0, 1).

    Returns:
        Values in (-1, 0], shaped like `remaining`.
    """
    return torch.expm1(_floating(remaining) * math.log(gamma))


def horizon_shifts(horizons: Tensor, gamma: float) -> Tensor:
    """What each token did to the predicted horizon u: `gamma * u[t+1] - u[t] + (1 - gamma)`; positive means longer.

    Minus the one-step TD residual of Eq. 16, whose V is -u and whose reward is -(1 - gamma): signs are fixed by
    meaning (DESIGN section 2). Where u is the expectation of `1 - gamma**remaining`, the expected shift is 0.

    Args:
        horizons: of the states s_0 .. s_T, in [0, 1]; 0 where the completion has ended; shape (..., T + 1).
        gamma: discount factor in (0, 1).

    Returns:
        The shift of the token between each two states; shape (..., T).
    """
    before, after = horizons[..., :-1], horizons[..., 1:]
    # the same expression, arranged so that numbers near 1 cancel first
    return (after - before) + (1.0 - gamma) * (1.0 - after)


def lambda_returns(
    values: Tensor,
    remaining: Tensor,
    gamma: float,
    lam: float,
    *,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """TD(lambda) targets along the last dimension.

        G_t = r_t + gamma * ((1 - lam) * values[t+1] + lam * G_{t+1})

    A state whose next token ends the completion has `G_t = r_t`. Where the next state is not in the window (masked,
    beyond the last column, or of another segment) but tokens remain, its value is known all the same, since the
    label is: the recursion starts there from the exact return `-(1 - gamma**(n_t - 1))`.

    `lam = 1` is plain Monte Carlo and equals `discounted_returns` exactly; it costs that one expression. Otherwise the
    linear recursion is solved by doubling, in log2(T) vectorised passes instead of T steps.

    Args:
        values: predicted values of the states, in (-1, 0]; shape (..., T). No gradient flows into them.
        remaining: tokens still to come at each state, EOS included; shape (..., T).
        gamma: discount factor in (0, 1).
        lam: in [0, 1]; how much of the observed return is kept at each step.
        mask: True where a state counts; shape (..., T). Default: everywhere. Other positions return 0.
        segments: numbers that tell the completions of a packed row apart; shape (..., T). Default: one per row.

    Returns:
        The targets, shape (..., T), in `values`' type.
    """
    check_gamma(gamma)
    if not 0.0 <= lam <= 1.0:
        raise InputError(f"`lam` must lie in [0, 1], got {lam!r}; 1 is plain Monte Carlo.")
    remaining = remaining.to(values.dtype)
    inside = torch.ones_like(remaining, dtype=torch.bool) if mask is None else mask
    exact = discounted_returns(remaining, gamma)
    if lam == 1.0:
        return exact.masked_fill(~inside, 0.0)

    values = values.detach()
    follows = torch.zeros_like(inside)
    follows[..., :-1] = inside[..., :-1] & inside[..., 1:]
    if segments is not None:
        follows[..., :-1] &= segments[..., :-1] == segments[..., 1:]
    bootstraps = follows & (remaining > 1)
    next_values = torch.zeros_like(values)
    next_values[..., :-1] = values[..., 1:]
    # G = offset + slope * G_next, where a state without a usable successor has slope 0 and its exact return
    offset = torch.where(bootstraps, gamma * (1.0 - lam) * next_values - (1.0 - gamma), exact)
    slope = bootstraps.to(values.dtype) * (gamma * lam)
    step = 1
    while step < values.shape[-1]:
        offset = offset + slope * _shifted(offset, step)
        slope = slope * _shifted(slope, step)
        step *= 2
    return offset.masked_fill(~inside, 0.0)


def _shifted(x: Tensor, step: int) -> Tensor:
    """`x` moved `step` to the left, with zeros coming in."""
    return torch.nn.functional.pad(x[..., step:], (0, step))


def _floating(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.to(torch.float32)

"""Parameters of rules: one number for all rows, or one per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lenvm.decoding.precision import finest_float
from lenvm.errors import InputError

Numbers = float | Sequence[float] | Tensor


def row_values(values: Numbers, device: torch.device) -> Tensor:
    """Numbers as a tensor; integers stay integers, and floats are as fine as the device has them."""
    if isinstance(values, Tensor):
        return values.to(device)
    tensor = torch.as_tensor(values, dtype=None if _are_whole(values) else torch.float64)
    return tensor.to(device, finest_float(device) if tensor.is_floating_point() else tensor.dtype)


def per_row(values: Numbers, like: Tensor) -> Tensor:
    """A parameter as one number per row, or one for all.

    Args:
        values: a number, or one per row.
        like: a tensor (B, ...) whose type and device the result has.

    Returns:
        (B,), or a scalar for all rows.

    Raises:
        InputError: if there is not one number per row.
    """
    if isinstance(values, int | float):
        return torch.full((), values, dtype=like.dtype, device=like.device)  # as_tensor would wait for the device
    tensor = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    if tensor.dim() and tensor.shape != like.shape[:1]:
        raise InputError(
            f"a rule has parameters for {len(tensor)} rows, but the batch has {len(like)}; give one value per row, or "
            "one for all."
        )
    return tensor


def check_tokens(n: Numbers) -> None:
    """Makes sure that a target is a whole, positive number of tokens, or one per row.

    Raises:
        InputError: if it is not.
    """
    message = f"`n` must be a whole number of tokens, at least 1 (one per row, if it is a list), got {n!r}."
    tensor = _numbers(n, message)
    whole = not (tensor.is_floating_point() or tensor.dtype == torch.bool)
    if tensor.numel() and not (whole and (tensor >= 1).all()):
        raise InputError(message)


def check_range(name: str, values: Numbers, low: float, high: float, wanted: str) -> None:
    """Makes sure that a parameter lies in [low, high] and is finite, for every row.

    Raises:
        InputError: if it does not; the message says that it must be `wanted`.
    """
    message = f"`{name}` must be {wanted}, got {values!r}."
    tensor = _numbers(values, message)
    if not (torch.isfinite(tensor) & (tensor >= low) & (tensor <= high)).all():
        raise InputError(message)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Makes sure that an option is one of its choices.

    Raises:
        InputError: if it is not.
    """
    if value not in choices:
        raise InputError(f"`{name}` must be one of {', '.join(f'`{c}`' for c in choices)}, got {value!r}.")


def check_reachable(n: Numbers, shortest: int | None, longest_possible: int) -> None:
    """Makes sure that completions of `n` tokens exist.

    Args:
        n: the target, or one per row.
        shortest: tokens of the shortest completion that the value model was trained on; None if unknown.
        longest_possible: tokens that there is room for.

    Raises:
        InputError: if a target lies outside.
    """
    targets = torch.as_tensor(n)
    if not targets.numel():
        return
    lowest, highest = int(targets.min()), int(targets.max())
    if shortest is not None and lowest < shortest:
        raise InputError(
            f"a target of {lowest} tokens was asked for, but the shortest completion that the value model was trained "
            f"on has {shortest}; ask for {shortest} or more."
        )
    if highest > longest_possible:
        raise InputError(
            f"a target of {highest} tokens was asked for, but only {longest_possible} fit into the context and the "
            "token limit; ask for fewer, raise `max_tokens`, or shorten the prompt."
        )


def _numbers(values: Any, message: str) -> Tensor:
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(message) from error
    if tensor.dim() > 1:
        raise InputError(message)
    return tensor


def _are_whole(values: Any) -> bool:
    return all(isinstance(v, int) for v in (values if isinstance(values, Sequence) else [values]))

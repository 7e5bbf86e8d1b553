"""Train, validation and test by prompt: no prompt is in two of them."""

from __future__ import annotations

import hashlib

import numpy as np

from lenvm.errors import InputError


def prompt_numbers(prompt_ids: list[str]) -> tuple[np.ndarray, list[str]]:
    """The number of each row's prompt, in order of first appearance, and the prompt ids by number."""
    numbers: dict[str, int] = {}
    rows = np.fromiter((numbers.setdefault(p, len(numbers)) for p in prompt_ids), dtype=np.int64, count=len(prompt_ids))
    return rows, list(numbers)


def split_prompts(prompt_ids: list[str], fractions: dict[str, float], seed: int) -> dict[str, set[str]]:
    """Shares the prompts out; what the fractions leave is `train`.

    A prompt's place depends on its id and the seed alone, not on the order of the rows; the sizes are exact.

    Raises:
        InputError: if a fraction is not in [0, 1), or if a part that was asked for would be empty.
    """
    if any(not 0.0 <= f < 1.0 for f in fractions.values()) or sum(fractions.values()) >= 1.0:
        raise InputError(f"the fractions of prompts must lie in [0, 1) and leave some for training, got {fractions}.")
    ordered = sorted(set(prompt_ids), key=lambda p: hashlib.sha256(f"{seed}/{p}".encode()).digest())
    parts: dict[str, set[str]] = {}
    for name, fraction in fractions.items():
        size = round(len(ordered) * fraction) if fraction == 0.0 else max(round(len(ordered) * fraction), 1)
        parts[name], ordered = set(ordered[:size]), ordered[size:]
    parts["train"] = set(ordered)
    if not parts["train"]:
        raise InputError(
            f"{len(set(prompt_ids))} prompt(s) are too few to be split into training and {' and '.join(fractions)}; "
            "give more prompts, or separate files."
        )
    return parts

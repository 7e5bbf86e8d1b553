"""Train, validation and test by prompt: no prompt is in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lenvm.errors import InputError


def numbered(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """The number of each row's text, and the texts by number; only different texts become Python objects."""
    chunks = pc.dictionary_encode(column).unify_dictionaries().chunks
    if not chunks:
        return np.empty(0, dtype=np.int64), []
    numbers = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in chunks])
    return numbers.astype(np.int64), chunks[0].dictionary.to_pylist()


def split_prompts(prompt_ids: Iterable[str], fractions: dict[str, float], seed: int) -> dict[str, set[str]]:
    """Shares the prompts out; what the fractions leave is `train`.

    A prompt's place depends on the set of prompts and the seed, not on the order of the rows; the sizes are exact. More
    prompts move some of them: give `val` and `test` files of their own where the training data is to grow.

    Raises:
        InputError: if a fraction is not in [0, 1), or if a part that was asked for would be empty.
    """
    if any(not 0.0 <= f < 1.0 for f in fractions.values()) or sum(fractions.values()) >= 1.0:
        raise InputError(f"the fractions of prompts must lie in [0, 1) and leave some for training, got {fractions}.")
    ordered = sorted(set(prompt_ids), key=lambda p: hashlib.sha256(f"{seed}/{p}".encode()).digest())
    parts: dict[str, set[str]] = {}
    total = len(ordered)
    for name, fraction in fractions.items():
        size = 0 if fraction == 0.0 else max(round(total * fraction), 1)
        parts[name], ordered = set(ordered[:size]), ordered[size:]
    parts["train"] = set(ordered)
    if not parts["train"]:
        raise InputError(
            f"{total} prompt(s) are too few to be split into training and {' and '.join(fractions)}; "
            "give more prompts, or separate files."
        )
    return parts

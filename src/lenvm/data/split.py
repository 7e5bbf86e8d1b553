"""Train, validation and test by prompt: no prompt is in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import datasets
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
    ordered = _drawn(prompt_ids, seed)
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


def split_train(
    stores: dict[str, datasets.Dataset], keep: dict[str, np.ndarray], fractions: dict[str, float], seed: int
) -> None:
    """Takes validation and test prompts out of the training rows, or checks that given ones are not among them.

    Args:
        stores: the rows of each part; parts that are taken out of `train` are added.
        keep: numbers of the rows that each part uses; changed likewise.
        fractions: share of the prompts of `train` that `val` and `test` get where they have no rows of their own.
        seed: decides which.

    Raises:
        InputError: if a part shares a prompt with `train`.
    """
    rows = keep["train"]
    numbers, names = numbered(stores["train"].data.table["prompt_id"])
    numbers = numbers[rows]
    mine = {names[i] for i in np.unique(numbers)}
    for name in ("val", "test"):
        if name in stores:
            others, other_names = numbered(stores[name].data.table["prompt_id"])
            if shared := mine & {other_names[i] for i in np.unique(others[keep[name]])}:
                raise InputError(
                    f"{len(shared)} prompt(s) of `data.{name}` are also in `data.train`, for example "
                    f"prompt_id {min(shared)!r}; splits must not share prompts: take them out of one."
                )
    wanted = {name: f for name, f in fractions.items() if name not in stores and f > 0}
    for name, prompts in split_prompts(mine, wanted, seed).items():
        keep[name] = rows[np.array([p in prompts for p in names])[numbers]]
        stores[name] = stores["train"]


def limit_rows(
    store: datasets.Dataset, rows: np.ndarray, *, prompts: int | None, samples: int | None, seed: int
) -> np.ndarray:
    """The rows of so many prompts, and of each prompt so many.

    Args:
        store: the rows.
        rows: numbers of those to choose from, ascending.
        prompts: how many prompts; None keeps all. More of them include the fewer.
        samples: how many rows of each prompt, the first ones; None keeps all. A prompt may have fewer.
        seed: decides which prompts.

    Raises:
        InputError: if a number is below 1, or there are fewer prompts.
    """
    for name, value in (("train_prompts", prompts), ("train_samples", samples)):
        if value is not None and value < 1:
            raise InputError(f"`data.{name}` must be at least 1, got {value}.")
    numbers, names = numbered(store.data.table["prompt_id"])
    if prompts is not None:
        there = _drawn((names[i] for i in np.unique(numbers[rows])), seed)
        if len(there) < prompts:
            raise InputError(f"`data.train_prompts` asks for {prompts} prompts, but there are {len(there)}.")
        chosen = set(there[:prompts])
        rows = rows[np.array([name in chosen for name in names])[numbers[rows]]]
    if samples is not None:
        rows = rows[_place_within(numbers[rows]) < samples]
    return rows


def _drawn(prompt_ids: Iterable[str], seed: int) -> list[str]:
    return sorted(set(prompt_ids), key=lambda p: hashlib.sha256(f"{seed}/{p}".encode()).digest())


def _place_within(groups: np.ndarray) -> np.ndarray:
    """How many earlier elements are in each element's group."""
    order = np.argsort(groups, kind="stable")
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    places = np.empty(len(groups), dtype=np.int64)
    places[order] = np.arange(len(groups)) - np.repeat(starts, counts)
    return places

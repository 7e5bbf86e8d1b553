"""All completions of a prompt together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lenvm.data.batching.base import AbstractBatching, RowFacts
from lenvm.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Grouped(AbstractBatching):
    """Keeps the completions of a prompt in one batch (the paper's ablation, section 5.2).

    Prompts come in random order; each goes into the fullest open batch that has room. Where all prompts have equally
    many completions, that number must divide the batch size: then every batch but the last is full, and an update sees
    exactly as many completions as with `Shuffled`.
    """

    def batches(self, rows: RowFacts, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
        order = np.argsort(rows.prompt, kind="stable")
        _, starts = np.unique(rows.prompt[order], return_index=True)
        groups = np.split(order, starts[1:])
        largest = max(map(len, groups))
        if largest > batch_size:
            raise InputError(
                f"`grouped` batching keeps all {largest} completions of a prompt together, but `batch_size` is "
                f"{batch_size}; raise it to at least {largest}."
            )
        sizes = {len(group) for group in groups}
        if len(sizes) == 1 and batch_size % largest:
            raise InputError(
                f"`grouped` batching needs a `batch_size` that the {largest} completions of a prompt divide, or "
                f"updates would differ in size; got {batch_size}, try {batch_size // largest * largest}."
            )
        full: list[np.ndarray] = []
        waiting: dict[int, list[list[np.ndarray]]] = {}  # unfinished batches by the room they have left
        for i in rng.permutation(len(groups)):
            group = groups[i]
            room = min((r for r, batches in waiting.items() if batches and r >= len(group)), default=batch_size)
            batch = waiting[room].pop() if waiting.get(room) else []
            batch.append(group)
            if left := room - len(group):
                waiting.setdefault(left, []).append(batch)
            else:
                full.append(np.concatenate(batch))
        return full + [np.concatenate(batch) for batches in waiting.values() for batch in batches]

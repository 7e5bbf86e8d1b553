"""All completions of a prompt together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lenvm.data.batching.base import AbstractBatching, RowFacts
from lenvm.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Grouped(AbstractBatching):
    """Keeps the completions of a prompt in one batch (the paper's ablation, section 5.2).

    Prompts come in random order; each goes into the first open batch that has room. Where all prompts have equally many
    completions and that number divides the batch size, every batch but the last is full, so an update sees exactly as
    many completions as with `Shuffled`.
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
        full: list[np.ndarray] = []
        open_batches: list[list[np.ndarray]] = []
        for i in rng.permutation(len(groups)):
            group = groups[i]
            batch = next((b for b in open_batches if sum(map(len, b)) + len(group) <= batch_size), None)
            if batch is None:
                batch = []
                open_batches.append(batch)
            batch.append(group)
            if sum(map(len, batch)) == batch_size:
                full.append(np.concatenate(batch))
                open_batches = [b for b in open_batches if b is not batch]
        return full + [np.concatenate(batch) for batch in open_batches]

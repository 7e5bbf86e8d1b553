"""Rows of similar length together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lenvm.data.batching.base import AbstractBatching, RowFacts, chunks
from lenvm.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Bucketed(AbstractBatching):
    """Shuffles, sorts windows of many batches by length, and shuffles the batches: little padding, mixed epochs.

    Args:
        window: batches per sorted window; larger means less padding and less mixing.
    """

    window: int = 50

    def __post_init__(self) -> None:
        if self.window < 1:
            raise InputError(f"`window` must be at least 1, got {self.window}.")

    def batches(self, rows: RowFacts, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
        made: list[np.ndarray] = []
        for part in chunks(rng.permutation(len(rows.length)), batch_size * self.window):
            made += chunks(part[np.argsort(rows.length[part], kind="stable")], batch_size)
        return [made[i] for i in rng.permutation(len(made))]

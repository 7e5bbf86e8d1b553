"""Rows in random order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lenvm.data.batching.base import AbstractBatching, RowFacts, chunks


@dataclass(frozen=True, kw_only=True)
class Shuffled(AbstractBatching):
    """Every completion is drawn independently of its prompt (the paper's choice, section 5.2)."""

    def batches(self, rows: RowFacts, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
        return chunks(rng.permutation(len(rows.length)), batch_size)

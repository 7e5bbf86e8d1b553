"""Rows of similar length together, without changing what an optimizer step sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lenvm.data.batching.base import AbstractBatching, RowFacts, chunks
from lenvm.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Bucketed(AbstractBatching):
    """Shuffles, cuts the order into windows of a few batches, and sorts by length inside each window: less padding.

    The batches of a window stay side by side. Where a window is what one optimizer step accumulates, each step sees the
    very completions that it would see with `Shuffled`. Longer windows pad less, but then a step sees completions of one
    length, and since length is the label, its gradient is biased.

    Args:
        window: batches per window; best equal to (or a divisor of) `accumulate_grad_batches` times processes.
    """

    window: int = 4

    def __post_init__(self) -> None:
        if self.window < 1:
            raise InputError(f"`window` must be at least 1, got {self.window}.")

    def batches(self, rows: RowFacts, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
        made: list[np.ndarray] = []
        for part in chunks(rng.permutation(len(rows.length)), batch_size * self.window):
            inside = chunks(part[np.argsort(rows.length[part], kind="stable")], batch_size)
            made += [inside[i] for i in rng.permutation(len(inside))]
        return made

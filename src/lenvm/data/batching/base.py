"""What a batching scheme is: which rows come together in one micro-batch of one process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np


class RowFacts(NamedTuple):
    """What a batching scheme may know of the rows, without reading them.

    Attributes:
        length: tokens of prompt and completion; (R,).
        prompt: number of each row's prompt; (R,).
    """

    length: np.ndarray
    prompt: np.ndarray


class AbstractBatching(ABC):
    """Arranges all rows of an epoch in batches; the order of the batches is the order of training."""

    @abstractmethod
    def batches(self, rows: RowFacts, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Every row exactly once, in arrays of at most `batch_size` row numbers.

        Args:
            rows: length and prompt of each row.
            batch_size: completions per micro-batch of one process.
            rng: the only source of chance; it is seeded by seed and epoch.
        """


def chunks(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """`order` cut into batches; the last one may be smaller."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

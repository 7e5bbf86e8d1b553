"""The few contexts in which each token did most, in memory that does not grow with the number of completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Context(NamedTuple):
    """What stands around a token.

    Attributes:
        before: token ids before it, as the bytes of an int32 array: a fifth of a tuple's memory.
        after: those after it.
    """

    before: bytes
    after: bytes

    @staticmethod
    def of(before: list[int], after: list[int]) -> Context:
        """Packs token ids."""
        return Context(np.array(before, dtype=np.int32).tobytes(), np.array(after, dtype=np.int32).tobytes())

    def ids(self) -> tuple[list[int], list[int]]:
        """The token ids before and after."""
        before, after = (np.frombuffer(packed, dtype=np.int32).tolist() for packed in self)
        return before, after


class StrongestContexts:
    """Per token id the `size` different contexts of largest strength.

    They depend on everything that was offered, and neither on its order nor on how it was divided: those of two parts,
    offered to each other, are those of the whole.

    Args:
        size: how many to keep per token id.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._found: dict[int, dict[Context, float]] = {}
        self._weakest: dict[int, float] = {}

    def offer(self, tokens: Integers, strengths: Floats, context_of: Callable[[int], Context]) -> None:
        """Looks at many occurrences.

        Args:
            tokens: token ids; (N,).
            strengths: larger is kept; (N,).
            context_of: number of an occurrence to its context; asked only where it may be kept.
        """
        # the strongest first: most of the others then need no context
        for i in np.lexsort((-strengths, tokens)).tolist():
            token, strength = int(tokens[i]), float(strengths[i])
            if strength >= self._weakest.get(token, -np.inf):
                self.add(token, strength, context_of(i))

    def add(self, token: int, strength: float, context: Context) -> None:
        """Looks at one occurrence."""
        kept = self._found.setdefault(token, {})
        kept[context] = max(strength, kept.get(context, -np.inf))
        if len(kept) > self.size:
            # by the context, too, so that ties do not depend on the order
            del kept[min(kept, key=lambda known: (kept[known], known))]
        if len(kept) == self.size:
            self._weakest[token] = min(kept.values(), default=np.inf)

    def of(self, token: int) -> list[tuple[float, Context]]:
        """Strengths and contexts of a token id, the strongest first."""
        found = self._found.get(token, {})
        return sorted(((strength, context) for context, strength in found.items()), reverse=True)

    def __iter__(self) -> Iterator[tuple[int, float, Context]]:
        for token, kept in self._found.items():
            for context, strength in kept.items():
                yield token, strength, context

"""Some of many prompts, chosen while their rows go by."""

from __future__ import annotations

import hashlib
import heapq


class PromptChoice:
    """The prompts whose ids have the smallest hashes: which they are depends on the set of prompts, not on the rows.

    A prompt that is turned away once stays so, and one that is chosen in the end was never turned away. In between,
    some are taken that others push out later: in random order, `count * (1 + log(prompts / count))` in all.

    Args:
        count: how many; None takes all.
    """

    def __init__(self, count: int | None) -> None:
        self.count = count
        self._hashes: set[bytes] = set()
        self._smallest: list[int] = []  # negative, so that the heap's top is the largest of them

    @property
    def seen(self) -> int:
        """How many different prompts have been asked for."""
        return len(self._hashes)

    def takes(self, prompt_id: str) -> bool:
        """Whether a row of this prompt is worth keeping, as far as is known."""
        key = _hash(prompt_id)
        if key not in self._hashes:
            self._hashes.add(key)
            if self.count is not None:
                heapq.heappush(self._smallest, -int.from_bytes(key, "big"))
                if len(self._smallest) > self.count:
                    heapq.heappop(self._smallest)
        return self._is_small(key)

    def chosen(self, prompt_ids: set[str]) -> set[str]:
        """Those of the prompts that are chosen, when all rows have gone by."""
        return {prompt_id for prompt_id in prompt_ids if self._is_small(_hash(prompt_id))}

    def _is_small(self, key: bytes) -> bool:
        return self.count is None or int.from_bytes(key, "big") <= -self._smallest[0]


def _hash(prompt_id: str) -> bytes:
    return hashlib.blake2b(prompt_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()

"""A set of prompt ids that fits into a config.json: what a model was trained on, to be kept out of its evaluation."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenvm.errors import InputError

_BITS = 48
"""Of each id's hash: among a million, one of ten thousand others is taken for a member once in 30,000 times."""


@dataclass(frozen=True, eq=False)
class PromptSet:
    """Prompt ids as hashes; about five bytes a prompt as text.

    Attributes:
        hashes: ascending, each once; (P,).
    """

    hashes: NDArray[np.uint64]

    @staticmethod
    def of(prompt_ids: Iterable[str]) -> PromptSet:
        """The set of these ids."""
        return PromptSet(np.unique(_hashes(prompt_ids)))

    def __len__(self) -> int:
        return len(self.hashes)

    def among(self, prompt_ids: Sequence[str]) -> list[str]:
        """Those of the given ids that are in the set, in their order."""
        found = np.isin(_hashes(prompt_ids), self.hashes)
        return [prompt_id for prompt_id, here in zip(prompt_ids, found, strict=True) if here]

    def to_text(self) -> str:
        """The set as ASCII text: differences of the hashes, compressed."""
        steps = np.diff(self.hashes, prepend=np.uint64(0))
        columns = np.ascontiguousarray(steps.astype("<u8").view(np.uint8).reshape(-1, 8).T)
        return base64.b64encode(zlib.compress(columns.tobytes(), 9)).decode()

    @staticmethod
    def from_text(text: str) -> PromptSet:
        """What `to_text` wrote.

        Raises:
            InputError: if the text is damaged.
        """
        try:
            columns = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), np.uint8).reshape(8, -1)
        except (binascii.Error, zlib.error, ValueError) as error:
            raise InputError(
                f"`training_prompts` of the model's config.json is damaged ({error}); export the model again."
            ) from error
        steps = np.ascontiguousarray(columns.T).view("<u8").ravel().astype(np.uint64)
        return PromptSet(np.cumsum(steps, dtype=np.uint64))


def _hashes(prompt_ids: Iterable[str]) -> NDArray[np.uint64]:
    def number(prompt_id: str) -> int:
        digest = hashlib.blake2b(prompt_id.encode("utf-8", "surrogatepass"), digest_size=_BITS // 8)
        return int.from_bytes(digest.digest(), "big")

    return np.fromiter(map(number, prompt_ids), dtype=np.uint64)

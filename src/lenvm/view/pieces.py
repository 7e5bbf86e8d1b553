"""Tokens to the pieces of text that they write: one token each, unless only several together make a character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

_BROKEN = "\ufffd"
_LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8, and so the most tokens that one can be spread over."""
_CONTEXT = 3
"""Pieces before a token that decoders look at: some drop the space at the start of what they are given."""


class Piece(NamedTuple):
    """A stretch of a completion.

    Attributes:
        text: what is shown.
        tokens: how many tokens write it.
        special: whether it is no text but a control token, such as the end of text.
    """

    text: str
    tokens: int
    special: bool


class PieceReader:
    """Reads tokens one at a time, and gives pieces as soon as they are whole characters.

    Args:
        tokenizer: turns ids into text.
        before: ids that come before the first one, such as the prompt's last ones.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, before: Sequence[int] = ()) -> None:
        self._tokenizer, self._special = tokenizer, set(tokenizer.all_special_ids)
        self._known = [[i] for i in before[-_CONTEXT:]]
        self._waiting: list[int] = []

    def push(self, token: int) -> list[Piece]:
        """Takes one more token and returns the pieces that are now whole."""
        self._waiting.append(token)
        return self._settle(final=False)

    def flush(self) -> list[Piece]:
        """Returns what is left when no more tokens come; bytes that make no character are shown as such."""
        return self._settle(final=True)

    def _settle(self, *, final: bool) -> list[Piece]:
        pieces = []
        while self._waiting:
            count = self._whole()
            if count == 0:
                if not final and len(self._waiting) < _LONGEST_CHARACTER and not self._is_special(self._waiting[-1]):
                    break
                count = 1
            ids = self._waiting[:count]
            special = count == 1 and self._is_special(ids[0])
            pieces.append(Piece(self._text(ids, special=special), count, special))
            self._known = [*self._known[1 - _CONTEXT :], ids]
            del self._waiting[:count]
        return pieces

    def _whole(self) -> int:
        """How many of the waiting tokens are needed for whole characters; 0 if these are not enough."""
        for count in range(1, min(len(self._waiting), _LONGEST_CHARACTER) + 1):
            ids = self._waiting[:count]
            if count == 1 and self._is_special(ids[0]):
                return 1
            if self._is_special(ids[-1]):
                return 0
            if _BROKEN not in self._text(ids, special=False):
                return count
        return 0

    def _text(self, ids: list[int], *, special: bool) -> str:
        if special:
            return self._decode(ids)
        before = [i for known in self._known for i in known if not self._is_special(i)]
        start = self._decode(before)
        both = self._decode(before + ids)
        # broken bytes before and after can melt into one sign; then they are read apart
        return both[len(start) :] if both.startswith(start) and len(both) > len(start) else self._decode(ids)

    def _is_special(self, token: int) -> bool:
        return token in self._special

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def pieces(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, before: Sequence[int] = ()) -> list[Piece]:
    """The pieces of a whole completion; their `tokens` add up to its length.

    Args:
        ids: token ids of the completion.
        tokenizer: turns ids into text.
        before: ids of the prompt.
    """
    reader = PieceReader(tokenizer, before)
    found = [piece for token in ids for piece in reader.push(token)]
    return found + reader.flush()

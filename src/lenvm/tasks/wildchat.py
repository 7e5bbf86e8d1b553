"""WildChat: what people asked a chat model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lenvm.data.rollout import BadRowError, Rollout
from lenvm.tasks.base import Part
from lenvm.tasks.dataset import AbstractDatasetTask, text_in
from lenvm.tasks.templates import INSTRUCTION

_LATIN = "A-Za-z\u00c0-\u024f\u1e00-\u1eff"
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf"
_GREEK = "\u0391-\u03a9\u03b1-\u03c9\u03d1\u03d5\u03d6\u03f5"
"""Letters of formulas: no accents, and of the variants only those of epsilon, theta, phi and pi."""

_OTHERS = re.compile(f"[^\\W\\d_{_LATIN}{_CHINESE}{_GREEK}]")


@dataclass(frozen=True, kw_only=True)
class WildChat(AbstractDatasetTask):
    """The first message of each conversation of WildChat, the paper's instructions; a tenth of them is `test`.

    Conversations in other languages or letters are left out, as in the authors' code. People ask the same again, so
    prompts come again too.

    Args:
        source: the dataset's name on the hub, or a local folder or file with `conversation` and `language`.
        revision: branch, tag or commit on the hub.
        template: the user's message, with `{question}` where the first message goes; the authors' by default.
        domain: the domain of all prompts.
        languages: languages that are kept, by the names of the dataset.
        any_letters: keep messages with letters that are neither Latin nor Chinese nor the Greek ones of formulas.
    """

    splits: ClassVar[Mapping[Part, str]] = {"all": "train"}
    columns: ClassVar[tuple[str, ...]] = ("conversation", "language")

    source: str = "allenai/WildChat"
    template: str = INSTRUCTION
    domain: str = "instruction"
    languages: tuple[str, ...] = ("English", "Chinese")
    any_letters: bool = False

    def _rollouts(self, row: Mapping[str, Any]) -> Iterable[Rollout]:
        if row["language"] not in self.languages:
            return
        turns = row["conversation"]
        if not (isinstance(turns, list) and turns and isinstance(turns[0], dict)):
            raise BadRowError("empty `conversation`")
        if str(turns[0].get("role", "")).lower() != "user":
            raise BadRowError("`conversation` does not begin with the user")
        question = text_in(turns[0], "content")
        if self.any_letters or not has_other_letters(question):
            yield self._asked(question)


def has_other_letters(text: str) -> bool:
    """Whether a text has letters that are neither Latin nor Chinese nor Greek ones of formulas (authors' filter)."""
    return any(letter.isalpha() for letter in _OTHERS.findall(text))

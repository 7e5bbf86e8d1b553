"""Prompts that are given directly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lenvm.data.rollout import Rollout, prompt_hash
from lenvm.errors import InputError
from lenvm.tasks.base import AbstractTask, Part, TaskPrompt, in_part


@dataclass(frozen=True, kw_only=True)
class Texts(AbstractTask):
    """Texts as prompts, each once, without domain and grader. A tenth of all texts is `test`, perhaps none of these.

    Args:
        texts: the prompts.
    """

    texts: list[str]

    def __post_init__(self) -> None:
        if not self.texts:
            raise InputError("`texts` is empty; give at least one prompt.")
        for number, text in enumerate(self.texts, 1):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"`texts` must be prompts that are not empty, got {text!r} in place {number}.")

    def prompts(self, part: Part, seed: int, domain: str | None = None) -> Iterator[TaskPrompt]:
        if domain is not None:
            return
        for number, text in enumerate(dict.fromkeys(self.texts), 1):
            rollout = Rollout(prompt=text, prompt_id=prompt_hash(text))
            if in_part(rollout.prompt_id, part):
                yield TaskPrompt(f"text {number}", rollout)

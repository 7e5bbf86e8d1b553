"""Asking for a length in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lenvm.data.rollout import Prompt
from lenvm.decoding.generate import Completion
from lenvm.errors import InputError
from lenvm.evaluation.methods.base import AbstractMethod, Task
from lenvm.evaluation.setup import Setup

_WORDS = {"equal": "equal to", "at_most": "at most", "at_least": "at least"}


@dataclass(frozen=True, kw_only=True)
class AskForLength(AbstractMethod):
    """Plain sampling with a sentence at the end of the user's message.

    Its log-probabilities are those of the completions after the prompt that was really sent.

    Args:
        template: the sentence; `{n}` stands for the target, `{constraint}` for `equal to`, `at most` or `at least`.
        instead_of: sentences that are taken out of the prompt first, such as requests for another length.
    """

    template: str = "Your answer must be {constraint} {n} tokens."
    instead_of: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            self.template.format(n=1, constraint="")
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(
                f"`template` may hold {{n}} and {{constraint}} and no other braces, got {self.template!r}."
            ) from error

    @property
    def uses_target(self) -> bool:
        return self.template.format(n="", constraint="") != self.template

    def write(self, setup: Setup, task: Task) -> Iterator[Completion]:
        return setup.stream([self.prompt_of(prompt, task) for prompt in task.prompts])

    def prompt_of(self, prompt: Prompt, task: Task) -> Prompt:
        n = task.wanted() if self.uses_target else None
        sentence = self.template.format(n=n, constraint=_WORDS[task.constraint])
        if isinstance(prompt, str):
            return self._joined(prompt, sentence)
        *before, last = prompt
        content: Any = last["content"]
        if last["role"] != "user" or not isinstance(content, str):
            kind = "a text" if isinstance(content, str) else "parts of a message"
            raise InputError(
                f"AskForLength needs prompts that end with a text of the user, but one ends with {kind} of the "
                f"{last['role']}; give other prompts, or leave the method out."
            )
        return [*before, {**last, "content": self._joined(content, sentence)}]

    def _joined(self, text: str, sentence: str) -> str:
        for unwanted in self.instead_of:
            text = text.replace(unwanted, "")
        return f"{text.rstrip()} {sentence}"

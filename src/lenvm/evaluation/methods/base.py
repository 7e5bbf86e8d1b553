"""What a method is: it writes completions of prompts, perhaps towards a length."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lenvm.data.rollout import Prompt
from lenvm.decoding.generate import Completion
from lenvm.errors import InputError
from lenvm.evaluation.setup import Setup
from lenvm.metrics import Constraint


class Task(NamedTuple):
    """What is asked for.

    Attributes:
        prompts: the prompts to complete.
        target: the length in tokens, EOS included; None where none is asked for.
        constraint: what the length has to be to the target.
    """

    prompts: list[Prompt]
    target: int | None
    constraint: Constraint

    def wanted(self) -> int:
        """The target, for methods that need one.

        Raises:
            InputError: if there is none.
        """
        if self.target is None:
            raise InputError("this method needs a target length, and here there is none; give it one of its own.")
        return self.target


class AbstractMethod(ABC):
    """Writes completions."""

    @property
    def uses_target(self) -> bool:
        """Whether the target decides what is written; if not, one set of completions serves all targets."""
        return True

    @property
    def value_models(self) -> tuple[str, ...]:
        """Names of the value models that it brings itself, beside the evaluation's."""
        return ()

    def under(self, constraint: Constraint) -> AbstractMethod:
        """What writes under a constraint: the method itself, unless it is one for each."""
        return self

    @property
    def effort(self) -> int:
        """Completions that are written for each that is kept."""
        return 1

    def prompt_of(self, prompt: Prompt, task: Task) -> Prompt:
        """The prompt that is really sent for one of the task's, which may be longer.

        Raises:
            InputError: if the method cannot use this prompt.
        """
        return prompt

    def for_prompts(self, places: Sequence[int]) -> AbstractMethod:
        """What writes for these of the task's prompts: the method itself, unless it has values for each."""
        return self

    def check(self, setup: Setup, task: Task) -> None:
        """Makes sure that the method can be run, before anything is.

        Raises:
            InputError: if it cannot.
        """
        if self.uses_target:
            task.wanted()
        for prompt in task.prompts:
            self.prompt_of(prompt, task)

    @abstractmethod
    def write(self, setup: Setup, task: Task) -> Iterator[Completion]:
        """Yields `setup.num_samples` completions of each prompt, as they end."""

    def described(self, setup: Setup) -> dict[str, Any]:
        """Everything of the method that decides what is written, as JSON."""
        return {"method": repr(self)}

"""One name for what has to be another method under every constraint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lenvm.data.rollout import Prompt
from lenvm.decoding.generate import Completion
from lenvm.evaluation.methods.base import AbstractMethod, Task
from lenvm.evaluation.setup import Setup
from lenvm.metrics import Constraint


@dataclass(frozen=True, kw_only=True)
class ByConstraint(AbstractMethod):
    """The method that the constraint decides, such as the rules `EqualTo`, `AtMost` and `AtLeast`.

    Args:
        equal: what writes completions of exactly a length.
        at_most: what writes completions of at most a length.
        at_least: what writes completions of at least a length.
    """

    equal: AbstractMethod
    at_most: AbstractMethod
    at_least: AbstractMethod

    @property
    def uses_target(self) -> bool:
        return any(method.uses_target for method in (self.equal, self.at_most, self.at_least))

    @property
    def value_models(self) -> tuple[str, ...]:
        return tuple(name for part in (self.equal, self.at_most, self.at_least) for name in part.value_models)

    def under(self, constraint: Constraint) -> AbstractMethod:
        chosen = {"equal": self.equal, "at_most": self.at_most, "at_least": self.at_least}[constraint]
        return chosen.under(constraint)

    def prompt_of(self, prompt: Prompt, task: Task) -> Prompt:
        return self.under(task.constraint).prompt_of(prompt, task)

    def check(self, setup: Setup, task: Task) -> None:
        self.under(task.constraint).check(setup, task)

    def write(self, setup: Setup, task: Task) -> Iterator[Completion]:
        return self.under(task.constraint).write(setup, task)

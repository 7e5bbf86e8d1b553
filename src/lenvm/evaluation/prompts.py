"""The prompts of an evaluation, chosen as `lenvm rollout` chooses them, and graded by their task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError
from lenvm.rollout.selection import Selection
from lenvm.tasks import AbstractTask, Part, Playground, Table, Texts, task_of

PLAYGROUND_PROMPTS = 64


@dataclass(frozen=True)
class TaskPrompts:
    """Prompts of a task.

    Args:
        task: their task.
        rollouts: the prompts, without completions.
    """

    task: AbstractTask
    rollouts: list[Rollout]

    def graded(self, number: int, text: str, *, ended: bool) -> bool | None:
        """Whether a completion ended by itself with the right answer; None where there is no grader."""
        if not ended:
            return False if self.gradable(number) else None
        return self.task.grade(self.rollouts[number], text)

    def gradable(self, number: int) -> bool:
        """Whether there is a grader, and a reference answer, for this prompt."""
        return self.task.grade(self.rollouts[number], "") is not None


def load_prompts(
    task: AbstractTask | list[str] | str | None, part: Part | None, count: int | None, seed: int
) -> TaskPrompts:
    """The prompts to complete.

    Args:
        task: a task, a file of prompts, or texts; None takes the playground.
        part: which of the task's prompts; None takes `test`, and all of given files and texts.
        count: how many; None takes all, or 64 of a task that never ends.
        seed: decides which are chosen.

    Raises:
        InputError: if the task cannot be read, or if one of its prompts cannot be used.
    """
    source = Playground() if task is None else task_of(task)
    if part is None:
        part = "all" if isinstance(source, Table | Texts) else "test"
    if count is None and source.is_endless:
        count = PLAYGROUND_PROMPTS
    selection = Selection(task=source, part=part, seed=seed, count=count, mix=None, excluded=())
    rollouts = []
    for row in selection.prompts()[1]:
        if row.rollout is None:
            raise InputError(f"{row.place}: {row.problem}; mend or remove it.")
        rollouts.append(row.rollout)
    if not rollouts:
        raise InputError(f"there is no prompt in the part `{part}` of {_name(task)}; give other prompts.")
    return TaskPrompts(source, rollouts)


def _name(task: AbstractTask | list[str] | str | None) -> str:
    return str(Path(task)) if isinstance(task, str) else type(task).__name__

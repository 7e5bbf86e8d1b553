"""The playground's procedural problems as a task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError
from lenvm.playground import as_prompt
from lenvm.playground.corpus import draw_problems
from lenvm.playground.domains import DOMAINS
from lenvm.tasks.base import AbstractTask, Part, TaskPrompt

_TRAIN_FOR_EACH_TEST = 9


@dataclass(frozen=True, kw_only=True)
class Playground(AbstractTask):
    """Problems of the playground's domains in turn, drawn by the seed without end; a prompt may come again.

    `test` are the problems that the playground's policy was never trained on, a tenth of all wordings, and `train` are
    the others; `all` has nine of `train`, then one of `test`, and so on.

    Args:
        domains: of `math`, `code` and `instruction`.
    """

    domains: tuple[str, ...] = tuple(DOMAINS)

    def __post_init__(self) -> None:
        wrong = [name for name in self.domains if name not in DOMAINS]
        if wrong or not self.domains:
            raise InputError(f"`domains` must be of {', '.join(DOMAINS)}, got {', '.join(self.domains) or 'none'}.")

    @property
    def is_endless(self) -> bool:
        return True

    def prompts(self, part: Part, seed: int, domain: str | None = None) -> Iterator[TaskPrompt]:
        names = tuple(name for name in self.domains if domain in (None, name))
        if not names:
            return
        train = draw_problems(seed=seed, held_out=False, domains=names)
        test = draw_problems(seed=seed, held_out=True, domains=names)
        turns = {"train": (train,), "test": (test,), "all": (*(train,) * _TRAIN_FOR_EACH_TEST, test)}[part]
        for number, problems in enumerate(cycle(turns), 1):
            yield TaskPrompt(f"playground problem {number} of seed {seed}", as_prompt(next(problems)))

    def grade(self, prompt: Rollout, completion: str) -> bool | None:
        if prompt.reference is None or prompt.domain not in DOMAINS:
            return None
        return DOMAINS[prompt.domain].grade(completion, prompt.reference)

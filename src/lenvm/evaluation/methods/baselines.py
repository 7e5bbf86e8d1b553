"""Methods without a value model: nothing, token limits, transformers' length penalty, and trying often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from transformers import ExponentialDecayLengthPenalty, LogitsProcessorList, MinNewTokensLengthLogitsProcessor

from lenvm.decoding.generate import Completion
from lenvm.decoding.generator import eos_ids
from lenvm.errors import InputError
from lenvm.evaluation.methods.base import AbstractMethod, Task
from lenvm.evaluation.setup import Setup
from lenvm.metrics import length_score


@dataclass(frozen=True, kw_only=True)
class Plain(AbstractMethod):
    """The generator alone."""

    @property
    def uses_target(self) -> bool:
        return False

    def write(self, setup: Setup, task: Task) -> Iterator[Completion]:
        return setup.stream(task.prompts)


@dataclass(frozen=True, kw_only=True)
class ForcedLength(AbstractMethod):
    """Token limits: `min_new_tokens` and `max_new_tokens` at the target, as the constraint wants them.

    Perfect by construction, and nothing but cutting and holding back EOS: what reaches the upper limit has no natural
    end, so with `equal` no completion has one.
    """

    def write(self, setup: Setup, task: Task) -> Iterator[Completion]:
        target, eos, device = task.wanted(), eos_ids(setup.generator, setup.tokenizer), str(setup.generator.device)

        def held_back(width: int) -> LogitsProcessorList:
            return LogitsProcessorList([MinNewTokensLengthLogitsProcessor(width, target, eos, device)])

        longest = setup.sampling.max_tokens if task.constraint == "at_least" else target
        return setup.stream(
            task.prompts,
            sampling=replace(setup.sampling, max_tokens=longest),
            processors=None if task.constraint == "at_most" else held_back,
        )


@dataclass(frozen=True, kw_only=True)
class LengthPenalty(AbstractMethod):
    """transformers' `exponential_decay_length_penalty`: EOS grows more likely with every token after a start.

    Args:
        factor: the logit of EOS is raised by `abs(logit) * (factor**k - 1)` at the k-th token after the start.
        start: tokens before it starts; left out, `share` of the target.
        share: where it starts, as a share of the target.
    """

    factor: float = 1.05
    start: int | None = None
    share: float = 0.75

    def __post_init__(self) -> None:
        if self.factor <= 0 or self.share < 0 or (self.start is not None and self.start < 0):
            raise InputError(
                f"`factor` must be positive, `start` and `share` at least 0; got {self.factor}, {self.start} and "
                f"{self.share}."
            )

    @property
    def uses_target(self) -> bool:
        return self.start is None

    def write(self, setup: Setup, task: Task) -> Iterator[Completion]:
        start = round(self.share * task.wanted()) if self.start is None else self.start
        eos = eos_ids(setup.generator, setup.tokenizer)

        def processors(width: int) -> LogitsProcessorList:
            return LogitsProcessorList([ExponentialDecayLengthPenalty((start, self.factor), eos, width)])

        return setup.stream(task.prompts, processors=processors)


@dataclass(frozen=True, kw_only=True)
class BestOfMany(AbstractMethod):
    """Plain sampling, many times: of every so many completions, the one with the best length score.

    Where one meets the constraint it is a plain completion that does, so its quality is what guidance can hope for; it
    costs that many times as much.

    Args:
        attempts: completions that are written for each that is kept.
    """

    attempts: int = 16

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InputError(f"`attempts` must be at least 1, got {self.attempts}.")

    @property
    def effort(self) -> int:
        return self.attempts

    def write(self, setup: Setup, task: Task) -> Iterator[Completion]:
        target = task.wanted()
        tried: dict[tuple[int, int], list[Completion]] = defaultdict(list)
        for completion in setup.stream(task.prompts, num_samples=setup.num_samples * self.attempts):
            place = completion.prompt, completion.sample // self.attempts
            tried[place].append(completion)
            if len(tried[place]) == self.attempts:
                yield replace(self._best(tried.pop(place), target, task), sample=place[1])

    @staticmethod
    def _best(completions: list[Completion], target: int, task: Task) -> Completion:
        completions.sort(key=lambda c: c.sample)
        scores = length_score(torch.tensor([len(c.ids) for c in completions]), target, task.constraint)
        natural = torch.tensor([c.finish_reason == "stop" for c in completions])
        # one that was cut has not kept to anything
        return completions[int((scores + 1000.0 * natural).argmax())]

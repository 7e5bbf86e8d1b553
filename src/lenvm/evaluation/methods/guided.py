"""A rule with a value model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from lenvm.decoding.generate import Completion, ScorerName, prepare
from lenvm.decoding.rules import AbstractRule
from lenvm.evaluation.methods.base import AbstractMethod, Task
from lenvm.evaluation.setup import Setup, weights_digest


@dataclass(frozen=True, kw_only=True)
class Guided(AbstractMethod):
    """Decoding that a rule steers by predicted lengths.

    Args:
        rule: the rule; its `n`, also inside rules that it wraps, is set to the evaluation's target.
        scorer: `tree` reads every candidate (exact), `action_value` asks the head (cheap), `auto` takes the cheap one
            where it can.
        value_model: name or folder of the length value model; left out, the evaluation's.
    """

    rule: AbstractRule
    scorer: ScorerName = "auto"
    value_model: str | None = None

    @property
    def uses_target(self) -> bool:
        return takes_target(self.rule)

    @property
    def value_models(self) -> tuple[str, ...]:
        return () if self.value_model is None else (self.value_model,)

    def for_prompts(self, places: Sequence[int]) -> Guided:
        return self if self.rule.num_rows is None else replace(self, rule=self.rule.for_rows(torch.tensor(places)))

    def check(self, setup: Setup, task: Task) -> None:
        super().check(setup, task)
        model, rule = setup.model(self.value_model), self._rule(task)
        prepare(setup.generator, setup.tokenizer, model, self.scorer, rule)
        rule.check(model.shortest_length, setup.smallest_room(task.prompts, model))

    def write(self, setup: Setup, task: Task) -> Iterator[Completion]:
        model = setup.model(self.value_model)
        return setup.stream(task.prompts, value_model=model, rule=self._rule(task), scorer=self.scorer)

    def described(self, setup: Setup) -> dict[str, Any]:
        name = self.value_model or setup.value_model
        return {**super().described(setup), "value_model": f"{name} {weights_digest(setup.model(name))}"}

    def _rule(self, task: Task) -> AbstractRule:
        return with_target(self.rule, task.wanted()) if self.uses_target else self.rule


def takes_target(rule: AbstractRule) -> bool:
    """Whether a rule, or one that it wraps, has a length `n` to reach."""
    parts = {f.name: getattr(rule, f.name) for f in fields(rule)}
    return "n" in parts or any(takes_target(part) for part in _rules(parts.values()))


def with_target(rule: AbstractRule, target: int) -> AbstractRule:
    """The same rule with `n` at the target, also inside rules that it wraps."""
    changed: dict[str, Any] = {}
    for f in fields(rule):
        part = getattr(rule, f.name)
        if f.name == "n":
            changed[f.name] = target
        elif isinstance(part, AbstractRule):
            changed[f.name] = with_target(part, target)
        elif isinstance(part, list | tuple) and any(_rules(part)):
            changed[f.name] = [with_target(p, target) if isinstance(p, AbstractRule) else p for p in part]
    return replace(rule, **changed)


def _rules(parts: Any) -> Iterator[AbstractRule]:
    for part in parts:
        if isinstance(part, AbstractRule):
            yield part
        elif isinstance(part, list | tuple):
            yield from _rules(part)

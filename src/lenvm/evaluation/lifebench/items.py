"""Which items of a benchmark are judged, and what each of their prompts asks for."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from lenvm.data.rollout import Prompt, Rollout
from lenvm.errors import InputError
from lenvm.evaluation.methods import AbstractMethod, Task
from lenvm.evaluation.prompts import PLAYGROUND_PROMPTS, TaskPrompts, load_prompts
from lenvm.evaluation.setup import Setup
from lenvm.metrics import Constraint
from lenvm.tasks import AbstractTask, LengthRequirement, LIFEBench, Part, task_of

CONSTRAINTS: dict[str, Constraint] = {"equal_to": "equal", "at_most": "at_most", "at_least": "at_least"}
"""What the metrics call the constraints of the benchmark; in the order of the paper's table."""

_ROOM = 1.25

_LIMIT = 2
"""So many times the largest target is the least token limit."""


class Requirement(NamedTuple):
    """What a prompt asks for.

    Attributes:
        item: its item of the benchmark; all prompts of an item differ in their requirement alone.
        constraint: what the length has to be to the target.
        target: the length, in units.
        unit: `tokens`, `words` or `characters`.
        language: `en`, `cn`; None where the task does not say.
        category: the item's category, or the prompt's domain.
        type: the item's type.
    """

    item: str
    constraint: Constraint
    target: int
    unit: str
    language: str | None
    category: str | None
    type: str | None

    def tokens(self, tokens_per_unit: Mapping[str, float]) -> int | None:
        """The target in tokens; None if it is in another unit, and no number of tokens per unit is given for it."""
        if self.unit == "tokens":
            return self.target
        ratio = tokens_per_unit.get(self.language or "en")
        return None if ratio is None else max(1, round(self.target * ratio))


def requirement(rollout: Rollout) -> Requirement:
    """What a prompt asks for, as its metadata says it.

    Raises:
        InputError: if the metadata does not.
    """
    facts = rollout.metadata or {}
    if facts.get("constraint") not in CONSTRAINTS or "target" not in facts:
        raise InputError(
            f"the prompt with prompt_id {rollout.prompt_id!r} asks for no length (its metadata has no `constraint` and "
            "`target`); give the task LIFEBench, or put LengthRequirement around yours, as "
            "configs/task/length_requirement.yaml does."
        )
    return Requirement(
        item=str(facts.get("item", rollout.prompt_id)),
        constraint=CONSTRAINTS[facts["constraint"]],
        target=int(facts["target"]),
        unit=str(facts.get("unit", "tokens")),
        language=facts.get("lang"),
        category=facts.get("category", rollout.domain),
        type=facts.get("type"),
    )


def load_items(
    task: AbstractTask | list[str] | str | None, part: Part | None, items: int | None, seed: int
) -> TaskPrompts:
    """All prompts of the task; of a task that never ends, those of its first items."""
    source = LIFEBench() if task is None else task_of(task)
    count = None
    if source.is_endless:
        if not isinstance(source, LengthRequirement):
            raise InputError(
                f"{type(source).__name__} never ends and asks for no length; put LengthRequirement around it "
                "(configs/task/length_requirement.yaml)."
            )
        count = (items or PLAYGROUND_PROMPTS) * len(source.constraints) * len(source.targets)
    return load_prompts(source, part, count, seed)


def choose_items(
    prompts: TaskPrompts,
    count: int | None,
    setup: Setup,
    value_models: Sequence[str],
    tokens_per_unit: Mapping[str, float],
    methods: Sequence[AbstractMethod] = (),
) -> TaskPrompts:
    """The same items for every constraint and target: those with room for the longest, and of these so many.

    Room is a quarter more than the largest target: a completion that comes out too long is to be seen as such.
    Languages come in turn, and within one the smallest hashes of seed and item.

    Args:
        prompts: all prompts.
        count: how many items; None takes all.
        setup: the evaluation's.
        value_models: the value models that read along.
        tokens_per_unit: how many tokens a word or character has, by language.
        methods: what will write, perhaps to prompts that it makes longer.

    Returns:
        The prompts; `too_long` counts the items that were left out for want of room.

    Raises:
        InputError: if there are fewer items, or no completion may be twice as long as the largest target.
    """
    asked = [requirement(rollout) for rollout in prompts.rollouts]
    if len(units := sorted({a.unit for a in asked})) > 1:
        raise InputError(f"the prompts ask for lengths in {' and '.join(units)}; ask for one unit at a time.")
    longest = max(a.tokens(tokens_per_unit) or a.target for a in asked)
    limit = setup.sampling.max_tokens
    if limit < _LIMIT * longest:
        raise InputError(
            f"lengths of up to {longest} tokens are asked for, so `sampling.max_tokens` must be at least "
            f"{_LIMIT * longest}, got {limit}: a completion that is cut near its target would pass for one that keeps "
            "to it; raise it, or ask for smaller lengths."
        )

    def sent(number: int) -> Iterator[Prompt]:
        a, prompt = asked[number], prompts.rollouts[number].prompt or ""
        task = Task([prompt], a.tokens(tokens_per_unit), a.constraint)
        for method in (method.under(a.constraint) for method in methods):
            if task.target is not None or not method.uses_target:  # without a target, it will be refused anyway
                yield method.prompt_of(prompt, task)

    fitting = prompts.fitting(setup, value_models, math.ceil(_ROOM * longest), sent)
    languages = {a.item: a.language or "" for a in asked}
    # the wording of one requirement may be a token longer than that of another
    here = {rollout.prompt_id for rollout in fitting.rollouts}
    cut = {a.item for a, r in zip(asked, prompts.rollouts, strict=True) if r.prompt_id not in here}
    left = [item for item in languages if item not in cut]
    if len(left) < (count or 1):
        raise InputError(
            f"{count or 1} items are wanted, but of {len(languages)} only {len(left)} leave room for "
            f"{math.ceil(_ROOM * longest)} tokens; ask for fewer or for smaller targets, or give models with a longer "
            "context."
        )
    kept = set(_in_turn(left, languages, setup.sampling.seed)[:count])
    chosen = [r for a, r in zip(asked, prompts.rollouts, strict=True) if a.item in kept]
    return TaskPrompts(prompts.task, chosen, len(cut))


def originals(prompts: Sequence[Rollout]) -> list[Rollout]:
    """One prompt per item, under the id that it had before a length was asked for: the id that is trained on."""
    first = {requirement(rollout).item: rollout for rollout in reversed(prompts)}
    return [replace(rollout, prompt_id=item) for item, rollout in first.items()]


def _in_turn(items: Sequence[str], languages: Mapping[str, str], seed: int) -> list[str]:
    """Items of all languages in turn until each has given its own, every language in the order of its hashes."""
    places: dict[str, tuple[int, str]] = {}
    given: dict[str, int] = defaultdict(int)
    for item in sorted(
        items, key=lambda item: hashlib.sha256(f"{seed}/{item}".encode("utf-8", "surrogatepass")).digest()
    ):
        places[item] = (given[languages[item]], languages[item])
        given[languages[item]] += 1
    return sorted(items, key=lambda item: places[item])

"""LIFEBench: writing to a given length."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lenvm.data.rollout import BadRowError, Rollout, prompt_hash
from lenvm.errors import InputError
from lenvm.tasks.base import Part
from lenvm.tasks.dataset import AbstractDatasetTask, text_in
from lenvm.tasks.templates import INSTRUCTION

Constraint = Literal["equal_to", "at_most", "at_least"]
Unit = Literal["tokens", "words", "characters"]

WORDING: dict[str, dict[Constraint, str]] = {
    "en": {"equal_to": "equal to", "at_most": "at most", "at_least": "at least"},
    "cn": {"equal_to": "等于", "at_most": "至多有", "at_least": "至少有"},
}
"""How each constraint is asked for, by language."""

_TYPE, _COUNT = "{word_count_type}", "{word_count}"
_ENGLISH_UNIT = re.compile(r"\{word_count\}\s+words?\b")
_CHINESE_UNIT = re.compile(r"\{word_count\}\s*字")
_REQUIREMENT = "[要求]"


@dataclass(frozen=True, kw_only=True)
class LIFEBench(AbstractDatasetTask):
    """LIFEBench: every item with every constraint and target length. It has the part `test` only, and no grader.

    One item of the published file occurs twice, and so do its prompts.

    What was asked for is in `metadata`: constraint, target, unit, and the item's category, type and lang; `item` is a
    hash of its text, the same for all of its prompts.

    Args:
        source: the dataset's name on the hub, or a JSON Lines file of the benchmark.
        revision: branch, tag or commit on the hub.
        template: the user's message, with `{question}` where the task goes; the one of the authors' guided runs by
            default, `{question}` alone for the benchmark's own.
        domain: the domain of all prompts.
        split: split on the hub, such as `main` or `lite`; a local file is taken as a whole.
        targets: lengths that are asked for.
        constraints: `equal_to`, `at_most`, `at_least`.
        unit: what the targets count. The benchmark asks for words in English and for characters (字) in Chinese;
            `words` leaves that as it is; `tokens` words it as the authors do; `characters` differs in English alone.
    """

    splits: ClassVar[Mapping[Part, str]] = {"test": "main"}
    columns: ClassVar[tuple[str, ...]] = ("task", "lang")
    optional_columns: ClassVar[tuple[str, ...]] = ("category", "type")

    source: str = "LIFEBench/LIFEBench"
    template: str = INSTRUCTION
    domain: str = "instruction"
    split: str = "main"
    targets: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    constraints: tuple[Constraint, ...] = ("equal_to", "at_most", "at_least")
    unit: Unit = "tokens"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_requirements(self.targets, self.constraints)

    def _splits(self) -> Mapping[Part, str]:
        return {"test": self.split}

    def _rollouts(self, row: Mapping[str, Any]) -> Iterable[Rollout]:
        task, lang = text_in(row, "task"), row["lang"]
        if lang not in WORDING:
            raise BadRowError(f"`lang` must be en or cn, got {lang!r}")
        if _TYPE not in task or _COUNT not in task:
            raise BadRowError(f"`task` has no {_TYPE} or no {_COUNT}")
        item_id, task = prompt_hash(task), _in_unit(task, lang, self.unit)
        item = {name: row[name] for name in (*self.optional_columns, "lang") if row.get(name) is not None}
        for constraint in self.constraints:
            for target in self.targets:
                question = task.replace(_TYPE, WORDING[lang][constraint]).replace(_COUNT, str(target))
                facts = {"constraint": constraint, "target": target, "unit": self.unit, "item": item_id, **item}
                yield self._asked(question, metadata=facts)


def check_requirements(targets: Sequence[int], constraints: Sequence[str]) -> None:
    """Makes sure that lengths can be asked for.

    Raises:
        InputError: if there are none, a target is below 1 or there twice, or a constraint is unknown or there twice.
    """
    if not targets or min(targets) < 1:
        raise InputError(f"`targets` must be lengths of at least 1, got {targets}.")
    known = WORDING["en"]
    if wrong := [name for name in constraints if name not in known]:
        raise InputError(f"`constraints` may be {', '.join(known)}, got {wrong[0]!r}.")
    for name, values in (("targets", targets), ("constraints", constraints)):
        if len(set(values)) < max(len(values), 1):
            raise InputError(f"`{name}` must be different ones, at least one, got {values}.")


def _in_unit(task: str, lang: str, unit: Unit) -> str:
    """The task with another unit behind its length; nothing else of it is touched."""
    if unit == "words":
        return task
    if lang == "en":
        return _ENGLISH_UNIT.sub(f"{_COUNT} {unit}", task)
    if unit == "characters":
        return task
    text, mark, requirement = task.rpartition(_REQUIREMENT)
    return text + mark + _CHINESE_UNIT.sub(_COUNT, requirement).replace("字数", "token数")

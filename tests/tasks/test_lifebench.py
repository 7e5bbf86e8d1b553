from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from task_examples import CHINESE, ENGLISH, write_lines

from lenvm.data.rollout import prompt_hash
from lenvm.errors import InputError
from lenvm.tasks import LIFEBench

PREFIX = "Please follow the instructions below.\n\n"


def contents(task: LIFEBench) -> list[str]:
    return [row.rollout.prompt[0]["content"] for row in task.prompts("test", 0) if row.rollout]  # type: ignore[index]


@pytest.fixture
def task(example: Callable[..., Any]) -> LIFEBench:
    return replace(example(LIFEBench), targets=(32,), constraints=("at_most",))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("unit", "english", "chinese"),
    [
        ("tokens", "be at most 32 tokens long.", "你扩充的token数必须至多有 32。"),
        ("words", "be at most 32 words long.", "你扩充的字数必须至多有 32字。"),
        ("characters", "be at most 32 characters long.", "你扩充的字数必须至多有 32字。"),
    ],
)
def test_the_unit_is_worded_in_the_requirement_alone(task: LIFEBench, unit: Any, english: str, chinese: str) -> None:
    start = f"{PREFIX}Write {{text}}.\n\n[Requirement] The piece must "
    assert contents(replace(task, unit=unit)) == [start + english, f"{PREFIX}写300字的。\n\n[要求]{chinese}"]


def test_constraints_are_worded_in_the_language_of_the_item(task: LIFEBench) -> None:
    every = replace(task, constraints=("equal_to", "at_most", "at_least"))
    said = [text.partition("must be ")[2] or text.partition("必须")[2] for text in contents(every)]
    assert said == [
        *("equal to 32 tokens long.", "at most 32 tokens long.", "at least 32 tokens long."),
        *("等于 32。", "至多有 32。", "至少有 32。"),
    ]


def test_there_is_a_prompt_for_every_item_constraint_and_target(example: Callable[..., Any]) -> None:
    rollouts = [row.rollout for row in example(LIFEBench).prompts("all", 0)]
    assert len(rollouts) == 2 * 3 * 6
    assert rollouts[7].metadata == {
        "constraint": "at_most",
        "target": 64,
        "unit": "tokens",
        "item": prompt_hash(ENGLISH),
        "category": "create",
        "type": "Story",
        "lang": "en",
    }
    assert {(r.metadata["constraint"], r.metadata["target"], r.metadata["lang"]) for r in rollouts} == {
        (constraint, target, lang)
        for constraint in ("equal_to", "at_most", "at_least")
        for target in (32, 64, 128, 256, 512, 1024)
        for lang in ("en", "cn")
    }


def test_the_benchmark_s_own_prompt_has_nothing_around_it(task: LIFEBench) -> None:
    assert contents(replace(task, template="{question}", unit="words"))[0].startswith("Write {text}.")


def test_it_has_no_training_part_and_no_grader(task: LIFEBench) -> None:
    with pytest.raises(InputError, match="LIFEBench has no part `train`: it has `test`"):
        next(task.prompts("train", 0))
    assert task.grade(next(task.prompts("test", 0)).rollout, "text") is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"lang": "en", "task": ""}, "empty `task`"),
        ({"lang": "de", "task": ENGLISH}, "`lang` must be en or cn, got 'de'"),
        ({"lang": None, "task": ENGLISH}, "`lang` must be en or cn, got None"),
        ({"lang": "cn", "task": CHINESE.replace("{word_count}", "9")}, "`task` has no {word_count_type} or no"),
        ({"lang": "cn", "task": CHINESE.replace("{word_count_type}", "")}, "`task` has no {word_count_type} or no"),
    ],
)
def test_an_item_that_cannot_be_used_is_one_problem(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    source = write_lines(tmp_path / "data.jsonl", [row, {"lang": "en", "task": ENGLISH}])
    bad, *good = LIFEBench(source=str(source)).prompts("test", 0)
    assert str(bad.problem).startswith(problem)
    assert (bad.rollout, bad.place) == (None, f"{source}, main row 0")
    assert len(good) == 18


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"targets": ()}, r"`targets` must be lengths of at least 1, got \(\)"),
        ({"targets": (5, 0)}, r"`targets` must be lengths of at least 1, got \(5, 0\)"),
        ({"targets": (5, 5)}, r"`targets` must be different ones, at least one, got \(5, 5\)"),
        ({"constraints": ()}, r"`constraints` must be different ones, at least one, got \(\)"),
        ({"constraints": ("exactly",)}, "`constraints` may be equal_to, at_most, at_least, got 'exactly'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        LIFEBench(**options)


def test_the_hub_s_split_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load_dataset(path: str, **options: Any) -> Any:
        calls.append((path, options["split"]))
        return datasets.Dataset.from_list([{"task": ENGLISH, "lang": "en"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for task in (LIFEBench(), LIFEBench(split="lite")):
        next(task.prompts("test", 0))
    assert calls == [("LIFEBench/LIFEBench", "main"), ("LIFEBench/LIFEBench", "lite")]

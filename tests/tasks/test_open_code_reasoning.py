from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from task_examples import code_rows, write_lines

from lenvm.errors import InputError
from lenvm.tasks import OpenCodeReasoning, TaskPrompt

START = (
    "Please solve the programming task below in Python step by step and then provide the complete solution in a "
    "single Python code block.\n\n"
)


def texts(rows: list[TaskPrompt]) -> list[str]:
    return [str(row.rollout.prompt[0]["content"]) for row in rows if row.rollout]  # type: ignore[index]


def test_each_task_is_given_once_with_the_text_of_its_parent(example: Callable[..., Any]) -> None:
    task = example(OpenCodeReasoning)
    rows = list(task.prompts("all", 0))
    assert [row.problem for row in rows] == [None] * 34
    assert texts(rows)[:2] == [f"{START}Print {{x}} 0 times.", f"{START}Print {{x}} 1 times."]
    assert texts(rows)[30:] == [
        f"{START}Sort the list.",
        f"{START}Contest 2",
        f"{START}Add two numbers.\n\nInput\n\nTwo numbers.\n\nOutput\n\nTheir sum.\n\nExamples\n\nInput\n\n1 2"
        "\n\nOutput\n\n3\n\nNote\n\nNo overflow.",
        f"{START}Only this.",
    ]
    assert {row.rollout.domain for row in rows} == {"code"}


def test_what_cannot_be_looked_up_is_a_problem_of_its_row(example: Callable[..., Any], tmp_path: Path) -> None:
    whole = example(OpenCodeReasoning)
    good = code_rows("taco", "train", 3)
    bad = [
        *code_rows("humaneval", "train", 0, times=2),
        {**good[0], "index": "x"},
        {**good[0], "index": None},
        *code_rows("taco", "train", 30),
        {**good[0], "question": ""},
    ]
    source = str(write_lines(tmp_path / "rows.jsonl", [*bad, *good]))
    rows = list(replace(whole, source=source).prompts("all", 0))
    names = "taco, apps, code_contests, open-r1/codeforces"
    assert [row.problem for row in rows] == [
        f"`dataset` must be one of {names}, got 'humaneval'",
        "`index` must be a row number, got 'x'",
        "`index` must be a row number, got 'None'",
        "`index` is 30, and the split 'train' of taco has 30 rows",
        "empty `question`",
        None,
    ]
    assert texts(rows) == [f"{START}Print {{x}} 3 times."]


def test_texts_that_are_there_are_taken_as_they_are_and_once(tmp_path: Path) -> None:
    rows = [{**row, "question": f"Text {n // 2}"} for n, row in enumerate(code_rows("taco", "train", 0, times=4))]
    task = OpenCodeReasoning(source=str(write_lines(tmp_path / "rows.jsonl", rows)))
    assert texts(list(task.prompts("all", 0))) == [f"{START}Text 0", f"{START}Text 1"]


@pytest.mark.parametrize(
    ("name", "rows", "sentence"),
    [
        ("train.jsonl", [{"query": "x"}], r"train\.jsonl has no column 'question'; present: query"),
        ("train.jsonl", [], r"train\.jsonl is empty"),
        ("taco.jsonl", [{"question": "x"}], "does not say which of train, valid, validation, test it is"),
        ("test.jsonl", [{"question": "x"}], "is 'test' by its name, and 'train' is wanted"),
        ("train.jsonl", None, "does not exist; expected a folder or file"),
    ],
)
def test_a_parent_that_cannot_be_read_is_refused(tmp_path: Path, name: str, rows: Any, sentence: str) -> None:
    source = write_lines(tmp_path / "rows.jsonl", code_rows("taco", "train", 0))
    parent = tmp_path / "parents" / name
    if rows is not None:
        write_lines(parent, rows)
    task = OpenCodeReasoning(source=str(source), parents={"taco": str(parent)})
    with pytest.raises(InputError, match=sentence):
        list(task.prompts("all", 0))


def test_parents_have_their_hub_names_and_can_be_told_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load_dataset(path: str, **options: Any) -> Any:
        calls.append((path, options.get("name"), options["split"], options.get("data_files", options.get("columns"))))
        if path == "nvidia/OpenCodeReasoning-2":
            names = ("taco", "apps", "code_contests", "open-r1/codeforces")
            return datasets.Dataset.from_list([code_rows(name, "train", 0)[0] for name in names])
        return datasets.Dataset.from_list([{"question": path, "description": path}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = list(OpenCodeReasoning(parents={"taco": "my/taco"}).prompts("all", 0))
    assert texts(rows) == [START + text for text in ("my/taco", "json", "deepmind/code_contests", "open-r1/codeforces")]
    assert calls == [
        ("nvidia/OpenCodeReasoning-2", "train", "python", ["question", "dataset", "split", "index"]),
        ("my/taco", None, "train", ["question"]),
        ("json", None, "train", {"train": "hf://datasets/codeparrot/apps/train.jsonl"}),
        ("deepmind/code_contests", None, "train", ["description"]),
        (
            "open-r1/codeforces",
            None,
            "train",
            ["description", "input_format", "output_format", "examples", "note"],
        ),
    ]
    with pytest.raises(InputError, match=r"`parents` may name taco, apps, .*, got 'leetcode'"):
        OpenCodeReasoning(parents={"leetcode": "x"})

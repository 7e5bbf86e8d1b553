from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from task_examples import mathvista_rows, png, write_lines, write_parquet

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError
from lenvm.tasks import MathVista, TaskPrompt

CHOICE = "Please reason step by step, and put your final answer within \\boxed{}.\n\n"
OPEN = "Please reason step by step, and provide your final answer at the end.\n\n"


def contents(rows: list[TaskPrompt]) -> list[Any]:
    return [row.rollout.prompt[0]["content"] for row in rows if row.rollout]  # type: ignore[index]


def test_prompts_ask_for_what_the_question_wants(example: Callable[..., Any]) -> None:
    assert contents(list(example(MathVista).prompts("test", 0))) == [
        f"{OPEN}Question: How long is it?\nAnswer with a number with one decimal place.",
        f"{OPEN}Question: How long is it? (Unit: cm)\nAnswer with a number with two decimal places.",
        f"{OPEN}Question: How many?\nAnswer with an integer.",
        f"{CHOICE}Question: Find the angle.\n\nAnswer with the option letter, e.g., A, B, C, D.\n"
        "Choices:\n(A) 135°\n(B) 145°",
        f"{OPEN}Question: When?\nAnswer with a Python list.",
    ]


def test_both_templates_can_be_chosen(example: Callable[..., Any]) -> None:
    task = replace(example(MathVista), template="choose: {question}", open_template="answer: {question}")
    assert [text.split()[0] for text in contents(list(task.prompts("test", 0)))] == ["answer:"] * 3 + [
        "choose:",
        "answer:",
    ]
    with pytest.raises(InputError, match="`open_template` must contain"):
        MathVista(open_template="?")


def test_the_grader_s_facts_are_in_the_rollout_and_survive_json(example: Callable[..., Any]) -> None:
    task = example(MathVista)
    rollouts = [row.rollout for row in task.prompts("test", 0)]
    assert rollouts[3].metadata == {"question_type": "multi_choice", "answer_type": "text", "choices": ["135°", "145°"]}
    assert rollouts[1].metadata == {
        "question_type": "free_form",
        "answer_type": "float",
        "precision": 2,
        "unit": "cm",
    }
    again = [Rollout(**json.loads(json.dumps(vars(rollout)))) for rollout in rollouts]
    right = ["\\boxed{1.23}", "\\boxed{1.254}", "The answer is 4.", "\\boxed{B}", "\\boxed{[1, 2]}"]
    assert [task.grade(rollout, text) for rollout, text in zip(again, right, strict=True)] == [True] * 5
    assert [task.grade(rollout, "\\boxed{A}") for rollout in again] == [False] * 5


def test_an_image_is_found_beside_the_file_or_in_its_own_folder(example: Callable[..., Any], tmp_path: Path) -> None:
    task = example(MathVista)
    folder = Path(task.source).parent
    first = next(task.prompts("test", 0)).rollout
    assert first.images == [str(folder / "images/1.jpg")]
    moved = tmp_path / "elsewhere"
    (folder / "images").rename(tmp_path / "images")
    moved.symlink_to(tmp_path)
    again = next(replace(task, images=moved).prompts("test", 0)).rollout
    assert again.images == [str(moved / "images/1.jpg")]
    assert again.prompt_id == first.prompt_id


def test_a_missing_image_is_a_problem_of_its_row(example: Callable[..., Any]) -> None:
    task = example(MathVista)
    missing = Path(task.source).parent / "images" / "2.jpg"
    missing.unlink()
    rows = list(task.prompts("test", 0))
    assert [row.problem for row in rows] == [None, f"the image {missing} does not exist", None, None, None]
    assert rows[1].place == f"{task.source}, row 1"


def test_questions_alone_need_no_image_and_keep_their_ids(example: Callable[..., Any]) -> None:
    task = example(MathVista)
    seen = [row.rollout for row in task.prompts("test", 0)]
    for image in (Path(task.source).parent / "images").iterdir():
        image.unlink()
    alone = [row.rollout for row in replace(task, text_only=True).prompts("test", 0)]
    assert [rollout.images for rollout in alone] == [None] * 5
    assert [(r.prompt_id, r.prompt, r.reference, r.metadata) for r in alone] == [
        (r.prompt_id, r.prompt, r.reference, r.metadata) for r in seen
    ]


def test_equal_questions_about_different_images_are_different_prompts(tmp_path: Path) -> None:
    row = mathvista_rows()[0]
    rows = [{**row, "image": f"{n}.png"} for n in range(3)]
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    found = list(MathVista(source=str(write_lines(tmp_path / "rows.jsonl", rows))).prompts("test", 0))
    assert len(set(contents(found))) == 1
    assert len({row.rollout.prompt_id for row in found if row.rollout}) == 3


def hub_rows() -> list[dict[str, Any]]:
    kinds = [("RGB", "JPEG"), ("L", "PNG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG")]
    return [
        {**row, "precision": row["precision"] and float(row["precision"]), "decoded_image": png(n, *kinds[n])}
        for n, row in enumerate(mathvista_rows())
    ]


def as_image_feature(folder: Path) -> MathVista:
    rows = [{**row, "decoded_image": {"bytes": row["decoded_image"], "path": None}} for row in hub_rows()]
    table = datasets.Dataset.from_list(rows).cast_column("decoded_image", datasets.Image())
    table.to_parquet(str(folder / "data" / "testmini-00000-of-00001.parquet"))
    return MathVista(source=str(folder), cache_dir=folder.parent / "cache")


def as_bytes(folder: Path) -> MathVista:
    rows = [{**row, "decoded_image": {"bytes": row["decoded_image"], "path": "x.png"}} for row in hub_rows()]
    path = write_parquet(folder / "testmini.parquet", rows)
    return MathVista(source=str(path), cache_dir=folder.parent / "cache")


@pytest.mark.parametrize("write", [as_image_feature, as_bytes])
def test_images_inside_of_the_dataset_are_written_once_as_png(
    write: Callable[[Path], MathVista], tmp_path: Path, example: Callable[..., Any]
) -> None:
    # a file of its own name says which split it is; a folder's card or file names do
    folder = tmp_path / "hub"
    task = write(folder)
    if write is as_image_feature:
        (folder / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files:\n"
            "  - split: testmini\n    path: data/testmini-*\n---\n"
        )
    rows = list(task.prompts("test", 0))
    assert [row.problem for row in rows] == [None] * 5
    files = sorted((tmp_path / "cache").iterdir())
    assert sorted(image for row in rows for image in row.rollout.images or []) == [str(file) for file in files]  # type: ignore[union-attr]
    for row in rows:
        assert row.rollout is not None
        with Image.open((row.rollout.images or [""])[0]) as image:
            assert (image.format, image.size) == ("PNG", (4, 3))
    written = [file.stat().st_mtime_ns for file in files]
    assert list(task.prompts("test", 0)) == rows
    assert [file.stat().st_mtime_ns for file in files] == written
    local = [row.rollout.prompt_id for row in example(MathVista).prompts("test", 0)]
    assert [row.rollout.prompt_id for row in rows if row.rollout] == local


def test_images_go_to_the_cache_of_datasets_by_default(tmp_path: Path) -> None:
    task = replace(as_bytes(tmp_path / "hub"), cache_dir=None)
    (path,) = next(task.prompts("test", 0)).rollout.images or []  # type: ignore[union-attr]
    assert Path(path).parent == Path(datasets.config.HF_DATASETS_CACHE) / "lenvm" / "mathvista"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"question": ""}, "empty `question`"),
        ({"answer": None}, "empty `answer`"),
        ({"image": None}, "no `image` and no `decoded_image`"),
        ({"decoded_image": {"bytes": None, "path": None}}, "the image has no bytes"),
        ({"decoded_image": {"bytes": b"GIF?", "path": None}}, "the image cannot be read (cannot identify image file"),
        ({"decoded_image": {"bytes": png(1)[:45], "path": None}}, "the image cannot be read ("),
    ],
    ids=["question", "answer", "image", "bytes", "no image", "cut"],
)
def test_a_row_that_cannot_be_used_is_a_problem(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    row = {**mathvista_rows()[0], **change}
    task = MathVista(source=str(write_parquet(tmp_path / "a.parquet", [row])), cache_dir=tmp_path / "cache")
    (found,) = task.prompts("test", 0)
    assert str(found.problem).startswith(problem)
    assert not list(tmp_path.glob("cache/*"))


def test_choices_must_be_texts(tmp_path: Path) -> None:
    rows = {"1": {**mathvista_rows()[3], "choices": [1, 2]}, "2": "no row at all"}
    (tmp_path / "testmini.json").write_text(json.dumps(rows))
    found = MathVista(source=str(tmp_path / "testmini.json")).prompts("test", 0)
    assert [row.problem for row in found] == ["`choices` must be a list of texts", "empty `question`"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("{}", "is empty: expected at least one question"), ("{1", "cannot be loaded as a dataset")],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "testmini.json").write_text(content)
    with pytest.raises(InputError, match=sentence):
        next(MathVista(source=str(tmp_path / "testmini.json")).prompts("test", 0))

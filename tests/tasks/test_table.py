from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from task_examples import png, write_lines, write_parquet

from lenvm.data.rollout import Rollout, prompt_hash
from lenvm.errors import InputError
from lenvm.tasks import Table, TaskPrompt

ROWS = [{"question": f"Why, {i}?", "answer": i, "level": "x"} for i in range(5)]
COLUMNS = {"prompt": "question", "reference": "answer"}


def read(source: Path | str, **options: Any) -> list[TaskPrompt]:
    return list(Table(source=str(source), **options).prompts("all", 0))


def rollouts(rows: list[TaskPrompt]) -> list[Rollout]:
    return [row.rollout for row in rows if row.rollout]


def problems(rows: list[TaskPrompt]) -> list[str | None]:
    return [row.problem for row in rows]


def as_lines(folder: Path) -> Path:
    return write_lines(folder / "a.jsonl", ROWS)


def as_gzip(folder: Path) -> Path:
    (folder / "a.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    return folder / "a.jsonl.gz"


def as_parquet(folder: Path) -> Path:
    return write_parquet(folder / "a.parquet", ROWS)


def as_csv(folder: Path) -> Path:
    (folder / "a.csv").write_text("question,answer,level\n" + "".join(f'"Why, {i}?",{i},x\n' for i in range(5)))
    return folder / "a.csv"


def as_folder(folder: Path) -> Path:
    write_lines(folder / "a.jsonl", ROWS[:2])
    write_parquet(folder / "b" / "c.parquet", ROWS[2:])
    return folder


@pytest.mark.parametrize("write", [as_lines, as_gzip, as_parquet, as_csv, as_folder])
def test_every_format_gives_the_same_prompts(write: Callable[[Path], Path], tmp_path: Path) -> None:
    found = rollouts(read(write(tmp_path), columns=COLUMNS, domain="why"))
    assert found == [
        Rollout(prompt=row["question"], prompt_id=prompt_hash(str(row["question"])), domain="why", reference=str(i))  # type: ignore[arg-type]
        for i, row in enumerate(ROWS)
    ]


def test_a_dataset_by_name_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    source, real = as_lines(tmp_path).parent, datasets.load_dataset
    calls = []

    def load_dataset(path: str, **options: Any) -> Any:
        calls.append((path, options))
        return real(str(source), split="train", streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = read("some/questions", columns=COLUMNS, split="validation")
    assert [rollout.reference for rollout in rollouts(rows)] == ["0", "1", "2", "3", "4"]
    assert rows[1].place == "some/questions, row 1"
    assert calls == [("some/questions", {"split": "validation", "streaming": True})]


def test_rows_of_the_project_s_own_format_keep_what_they_say(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    row = {"prompt": prompt, "prompt_id": 7, "domain": "d", "reference": 3, "metadata": {"target": 5}}
    source = write_lines(tmp_path / "a.jsonl", [{**row, "completion": "c", "other": 1}, {"prompt": "q"}])
    assert rollouts(read(source, domain="else")) == [
        Rollout(prompt=prompt, prompt_id="7", domain="d", reference="3", metadata={"target": 5}),
        Rollout(prompt="q", prompt_id=prompt_hash("q"), domain="else"),
    ]


def test_a_template_is_put_around_texts(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "a.jsonl", [{"prompt": "{x} {question}"}, {"prompt": [{"role": "u", "content": 1}]}]
    )
    good, bad = read(source, template="<{question}>")
    assert good.rollout is not None
    assert (good.rollout.prompt, good.rollout.prompt_id) == ("<{x} {question}>", prompt_hash("<{x} {question}>"))
    assert bad.problem == "`template` is for prompts that are texts, and this one is a list of messages"
    with pytest.raises(InputError, match=r"`template` must contain \{question\}"):
        Table(source="x", template="?")


def test_a_file_without_prompts_names_the_columns_it_has(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"a\.jsonl:1: no column 'prompt'; present: answer, level, question; name the right one, as in `columns: ",
    ):
        read(as_lines(tmp_path))
    with pytest.raises(InputError, match="no column 'text'; present: answer, level, question"):
        read(as_lines(tmp_path), columns={"prompt": "text"})


def test_rows_that_cannot_be_used_are_named_and_the_others_are_given(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "1"}',
        '{"question": "x"}',
        '{"prompt": ""}',
        '{"prompt": " \\n"}',
        '{"prompt": null}',
        '{"prompt": 5}',
        '{"prompt": [{"role": "user"}]}',
        '{"prompt": ',
        "[1]",
        '{"prompt": "2"}',
    ]
    source = tmp_path / "a.jsonl"
    source.write_text("\n".join(lines))
    rows = read(source)
    assert [rollout.prompt for rollout in rollouts(rows)] == ["1", "2"]
    assert [row.place for row in rows] == [f"{source}:{n}" for n in range(1, 11)]
    expected = [
        "no column 'prompt'; present: question",
        *("empty `prompt`",) * 3,
        "`prompt` must be a text or a list of messages, got 5",
        "a message of `prompt` needs `role` and `content`",
        "not valid JSON",
        "expected a JSON object, got list",
    ]
    assert all(str(found).startswith(wanted) for found, wanted in zip(problems(rows)[1:-1], expected, strict=True))


def test_a_mapped_column_that_only_some_rows_have_is_a_problem_of_the_others(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "a.jsonl", [{"question": "q", "answer": 1}, {"question": "q"}])
    assert problems(read(source, columns=COLUMNS)) == [None, "column 'answer' is missing; present: question"]


def test_a_csv_file_with_damaged_rows_gives_the_others(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(b"prompt,domain\na,x\nb\n,y\nc,\xff\nd,\n")
    rows = read(source)
    assert [(r.prompt, r.domain) for r in rollouts(rows)] == [("a", "x"), ("d", None)]
    assert problems(rows)[1:-1] == ["expected 2 cells as in the header, got 1", "empty `prompt`", "not valid UTF-8"]


def test_images_are_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "1.png").write_bytes(png(1))
    images: list[Any] = [["1.png"], str(tmp_path / "sub" / "1.png"), ["1.png", "2.png"], [3], []]
    rows = [{"prompt": "?", "images": given, "prompt_id": n} for n, given in enumerate(images)]
    found = read(write_lines(tmp_path / "sub" / "a.jsonl", rows))
    assert [rollout.images for rollout in rollouts(found)] == [[str(tmp_path / "sub" / "1.png")]] * 2 + [[]]
    assert problems(found)[2:4] == [
        f"the image {tmp_path / 'sub' / '2.png'} does not exist",
        "`images` must be a list of paths, got '[3]'",
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"columns": {"prompts": "x"}}, r"`columns` may name prompt, completion, .*, got 'prompts'"),
        ({"columns": {"reference": "x"}}, r"`columns` must say which column holds the `prompt`, got"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Table(source="x", **options)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("/no/such.jsonl", r"/no/such\.jsonl does not exist; expected a file, a folder, or a hub dataset's name"),
        ("no-such.jsonl", r"'no-such\.jsonl' is neither a file nor a folder here, nor a dataset that the hub gives"),
        ("no/such", r"'no/such' is neither a file nor a folder here, nor a dataset that the hub gives"),
    ],
)
def test_a_source_that_is_not_there_is_refused(source: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read(source)


def test_an_empty_file_and_a_foreign_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "a.txt").write_text("prompt")
    with pytest.raises(InputError, match="is empty"):
        read(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match=r"cannot read .*a\.txt: expected a file ending in"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path, kind: str) -> None:
    source, number = tmp_path / f"a.{kind}", 30_000
    with source.open("w") as file:
        file.write("prompt\n" if kind == "csv" else "")
        for i in range(number):
            file.write(f"question {i}\n" if kind == "csv" else f'{{"prompt": "question {i}"}}\n')
    rows = Table(source=str(source)).prompts("all", 0)
    next(rows)
    tracemalloc.start()
    read = 1 + sum(row.rollout is not None for row in rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == number
    assert peak < 1_000_000

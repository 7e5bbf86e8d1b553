from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError
from task_examples import write_lines, write_parquet

from lenvm.errors import InputError
from lenvm.tasks.loading import load_split

ROWS = [{"question": "q", "answer": "a"}]


def load(source: Path | str, split: str = "train", **options: Any) -> Any:
    return load_split(str(source), split, splits=("train", "test"), **options)


def refused(sentence: str) -> Any:
    return pytest.raises(InputError, match=sentence)


@pytest.mark.parametrize("source", ["./no/such", "/no/such", "~/no/such", "a/b/c", "rows.jsonl", "x/rows.csv.gz"])
def test_a_path_that_does_not_exist_is_not_asked_for_on_the_hub(source: str) -> None:
    with refused("does not exist; expected a folder or file, or the name of a hub dataset"):
        load(source)


def test_a_hub_that_cannot_be_reached_is_said_with_what_to_do() -> None:
    with refused("the hub cannot be reached for 'no/such-set' .*go online once, or give `source` a local folder"):
        load("no/such-set")


def test_a_dataset_that_the_hub_does_not_have_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, **options: Any) -> Any:
        raise DatasetNotFoundError("Dataset 'x/y' doesn't exist on the Hub or cannot be accessed.")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with refused("the hub gives no dataset 'x/y': it does not exist, or wants `hf auth login`"):
        load("x/y")


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with refused("cannot be loaded as a dataset .*doesn't contain any data files"):
        load(tmp_path)


def test_a_folder_without_the_split_names_those_it_has(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", ROWS)
    with refused(r"no files that are called after the split 'test' .*\(Unknown split .*'train'.*give the file itself"):
        load(tmp_path, "test")


def test_a_configuration_is_one_of_the_folder_s_card_or_left_out(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", ROWS)
    assert len(load(tmp_path, config="main")) == 1
    write_lines(tmp_path / "socratic" / "other.jsonl", ROWS * 3)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files: train.jsonl\n"
        "- config_name: socratic\n  data_files: socratic/other.jsonl\n---\n"
    )
    assert [len(load(tmp_path, config=name)) for name in ("main", "socratic")] == [1, 3]
    with refused("cannot be loaded as a dataset .*Config name is missing"):
        load(tmp_path, config="no such")


def test_the_validation_split_of_plain_files_may_be_called_valid(tmp_path: Path) -> None:
    write_lines(tmp_path / "valid.jsonl", ROWS)
    write_lines(tmp_path / "train.jsonl", ROWS * 2)
    assert len(load(tmp_path, "valid")) == 1


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train.jsonl", b'{"question": "q"}\n{"question": broken\n', r"cannot be loaded as a dataset \(\w+: .*JSON"),
        ("train.jsonl", b"", "is empty: expected at least one row"),
        ("train.parquet", b"no parquet at all", r"cannot be loaded as a dataset \(ArrowInvalid: .*Parquet"),
        ("train.jsonl.gz", b"no gzip at all", "cannot be loaded as a dataset"),
        ("train.txt", b"x", r"cannot read .*train.txt: expected a file ending in \.jsonl, .*perhaps with \.gz"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with refused(sentence):
        load(tmp_path / name)


def test_a_place_for_the_split_makes_one_file_of_several(tmp_path: Path) -> None:
    write_lines(tmp_path / "x-train.jsonl", ROWS)
    write_lines(tmp_path / "x-valid.jsonl", ROWS * 2)
    source = tmp_path / "x-{split}.jsonl"
    assert [len(load(source, split)) for split in ("train", "valid")] == [1, 2]
    with refused("does not exist"):
        load(source, "test")


def test_an_address_of_files_on_the_hub_is_read_by_its_format(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **options: calls.append((path, options)))
    load("hf://datasets/codeparrot/apps/{split}.jsonl", "test")
    address = "hf://datasets/codeparrot/apps/test.jsonl"
    assert calls == [("json", {"split": "test", "data_files": {"test": address}})]


def test_only_the_wanted_columns_of_parquet_are_read_and_all_of_other_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "parquet" / "train.parquet", ROWS)
    write_lines(tmp_path / "lines" / "train.jsonl", ROWS)
    real = datasets.load_dataset

    def from_hub(path: str, **options: Any) -> Any:
        return real(str(tmp_path / path.removeprefix("hub/")), **{**options, "name": None, "revision": None})

    monkeypatch.setattr(datasets, "load_dataset", from_hub)
    assert load("hub/parquet", columns=["question"]).column_names == ["question"]
    assert load("hub/lines", columns=["question"]).column_names == ["question", "answer"]
    with refused("has no column 'level'; present: answer, question; expected the columns of the hub's dataset, or use"):
        load("hub/parquet", columns=["question", "level"])


def test_a_missing_column_of_a_local_copy_is_named(tmp_path: Path) -> None:
    from lenvm.tasks import DeepMath

    source = write_lines(tmp_path / "train.jsonl", ROWS)
    with refused("has no column 'final_answer'; present: answer, question; .*use the task `Table`"):
        next(DeepMath(source=str(source)).prompts("all", 0))


def test_rows_are_memory_mapped_and_keep_their_order(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [{"question": str(i)} for i in range(3000)])
    rows = load(tmp_path)
    assert isinstance(rows, datasets.Dataset)
    assert rows.cache_files
    assert [row["question"] for row in rows] == [str(i) for i in range(3000)]

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from jsonargparse import auto_cli

from lenvm.data.rollout import Rollout
from lenvm.data.writing import shard_facts
from lenvm.errors import InputError
from lenvm.rollout.importing import shards
from lenvm.rollout.importing.command import import_rollouts
from lenvm.rollout.importing.report import ImportReport

Import = Callable[..., list[Rollout]]
Write = Callable[..., Path]
ROW = {"prompt": "Hi", "completion": "Ho"}


def numbered(count: int) -> list[dict[str, Any] | str]:
    return [{"prompt": f"Count to {i // 2}.", "completion": f"{i}"} for i in range(count)]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_shards_have_so_many_rows_and_the_order_is_kept(
    write_json_lines: Write, run_import: Import, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run_import(write_json_lines(numbered(8)), rows_per_shard=3)
    assert names(tmp_path / "out") == [f"rollouts-0000{i}.parquet" for i in range(3)]
    assert [pq.read_metadata(f).num_rows for f in sorted((tmp_path / "out").iterdir())] == [3, 3, 2]
    assert [r.completion for r in rows] == [str(i) for i in range(8)]
    assert "Done. 8 completions of 4 prompts" in capsys.readouterr().out


def test_a_last_shard_is_not_empty(write_json_lines: Write, run_import: Import, tmp_path: Path) -> None:
    run_import(write_json_lines(numbered(6)), rows_per_shard=3)
    assert len(names(tmp_path / "out")) == 2


def test_every_shard_says_where_it_came_from(write_json_lines: Write, run_import: Import, tmp_path: Path) -> None:
    run_import(write_json_lines(numbered(2), "source.jsonl"), rows_per_shard=1)
    for file in (tmp_path / "out").iterdir():
        assert shard_facts(file) == {"imported_from": "source.jsonl", "format": "columns"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", "", "is empty"),
        ("rows.json", "[]", "is empty"),
        ("rows.json", " [ \n ] ", "is empty"),
        (
            "rows.jsonl",
            "no json\n" * 3,
            r"no row of .* can be read; the first problem was: .*rows\.jsonl:1: not valid JSON",
        ),
        ("rows.txt", "x", "cannot read .*: expected a file ending in"),
        (
            "rows.jsonl",
            '{"text": "x", "label": 1}',
            "the format of .* is not known: its first row has 'text', 'label', but formats are recognised as "
            "`published` by `conversations`; `openai_batch` by .*; `columns` by `prompt`/`completion`, .* Name the",
        ),
        ("rows.jsonl", "{}", "is not known: its first row has nothing"),
    ],
)
def test_files_that_cannot_be_used_are_refused_and_nothing_is_made(
    tmp_path: Path, run_import: Import, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        run_import(tmp_path / name)
    assert names(tmp_path) == [name]


def test_paths_that_are_no_file_are_refused(tmp_path: Path, run_import: Import) -> None:
    with pytest.raises(InputError, match=r"nothing\.jsonl does not exist; check the path"):
        run_import(tmp_path / "nothing.jsonl")
    with pytest.raises(InputError, match="is a folder; give one of its files"):
        run_import(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows_per_shard": 0}, "`rows_per_shard` must be at least 1, got 0"),
        (
            {"format": "colums"},
            "`format` must be one of auto, published, openai_batch, columns or a format, got 'colums'",
        ),
        ({"batch_input": Path("x"), "format": "columns"}, "`batch_input` is for the format `openai_batch`"),
        ({"columns": {"prompt": "p"}, "format": "published"}, "`columns` is for the format `columns`"),
        ({"batch_input": Path("x"), "columns": {"prompt": "p"}}, "`batch_input` is for the format `openai_batch`"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    write_json_lines: Write, run_import: Import, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_import(write_json_lines([ROW]), **options)


def test_a_first_row_that_cannot_be_read_does_not_hide_the_format(write_json_lines: Write, run_import: Import) -> None:
    path = write_json_lines(["{", ROW])
    with pytest.raises(InputError, match=r"rows\.jsonl:1: not valid JSON"):
        run_import(path)
    assert len(run_import(path, on_bad_row="skip")) == 1


@pytest.mark.parametrize("held", ["rollouts-00000.parquet", "deep/other.jsonl"])
def test_a_folder_that_holds_rollouts_is_left_alone(
    write_json_lines: Write, run_import: Import, tmp_path: Path, held: str
) -> None:
    file = tmp_path / "out" / held
    file.parent.mkdir(parents=True)
    file.write_bytes(b"mine")
    with pytest.raises(InputError, match=rf"out already holds {held}, which would be read together .*remove it, or"):
        run_import(write_json_lines([ROW]))
    assert file.read_bytes() == b"mine"


def test_an_output_that_is_a_file_or_a_running_folder_is_refused(
    write_json_lines: Write, run_import: Import, tmp_path: Path
) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match=r"`output` must be a folder, but .*out is a file"):
        run_import(write_json_lines([ROW]))
    (tmp_path / "out").unlink()
    (tmp_path / "out" / "__run__").mkdir(parents=True)
    with pytest.raises(InputError, match="out belongs to a run of `lenvm rollout`"):
        run_import(write_json_lines([ROW]))


def test_other_things_in_the_folder_do_not_matter(write_json_lines: Write, run_import: Import, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(InputError):
        run_import(write_json_lines([ROW, {}]))
    assert names(tmp_path / "out") == ["notes.txt"]
    run_import(write_json_lines([ROW]))
    assert names(tmp_path / "out") == ["notes.txt", "rollouts-00000.parquet"]


@pytest.mark.parametrize("error", [InputError, OSError, KeyboardInterrupt])
def test_an_error_behind_whole_shards_leaves_nothing(
    write_json_lines: Write,
    run_import: Import,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    take, taken = ImportReport.take, []

    def fails(self: ImportReport, rollout: Rollout) -> None:
        taken.append(names(tmp_path / "out") if taken else [])
        if self.rows == 7:
            raise error("here")
        take(self, rollout)

    monkeypatch.setattr(ImportReport, "take", fails)
    with pytest.raises(error, match="here"):
        run_import(write_json_lines(numbered(20)), rows_per_shard=2)
    assert taken[-1] == ["_import"]
    assert not (tmp_path / "out").exists()


def test_what_a_kill_left_is_named(write_json_lines: Write, run_import: Import, tmp_path: Path) -> None:
    (tmp_path / "out" / shards._UNFINISHED).mkdir(parents=True)
    with pytest.raises(InputError, match=r"is running or was interrupted; if none is running, remove .*out/_import"):
        run_import(write_json_lines([ROW]))


def test_reasons_without_end_are_counted_together() -> None:
    report = ImportReport(on_bad_row="skip")
    for i in range(200):
        report.refuse("x:1", f"reason {i}")
    assert len(report.skipped) == 51
    assert report.skipped["other reasons"] == 150


def test_the_command_line_takes_short_names_and_class_paths(
    write_json_lines: Write, tmp_path: Path, read_back: Callable[[Path], list[Rollout]]
) -> None:
    path = write_json_lines([{"q": "Hi", "a": "Ho"}])
    mapping = "{prompt: q, completion: a}"
    for name, options in {
        "mapped": ["--columns", mapping],
        "named": ["--format", "columns", "--columns", mapping],
        "class": ["--format", "lenvm.rollout.importing.columns.Columns", "--format.columns", mapping],
    }.items():
        output = tmp_path / name
        words = ["--file", str(path), "--output", str(output), *options]
        auto_cli(import_rollouts, args=words, as_positional=False)
        assert [r.completion for r in read_back(output)] == ["Ho"]


@pytest.mark.parametrize("kind", ["lines", "array"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, kind: str) -> None:
    def lines(count: int) -> Iterator[str]:
        return (json.dumps({"prompt": f"Count to {i}.", "completion": "1, 2, 3 " * 50}) for i in range(count))

    def peak(count: int, name: str = "") -> int:
        path = tmp_path / f"{kind}-{count}.json"
        text = "\n".join(lines(count)) if kind == "lines" else "[" + ", ".join(lines(count)) + "]"
        path.write_text(text, encoding="utf-8")
        del text
        tracemalloc.start()
        try:
            import_rollouts(path, output=tmp_path / f"{kind}-{count}{name}")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10_000, "first")  # what is loaded once
    small, large = peak(10_000), peak(30_000)
    assert large < small * 1.1 + 500_000, (small, large)

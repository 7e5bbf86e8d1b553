from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lenvm.data.reading import RawRow, find_files, read_hub_rows, read_rows
from lenvm.data.rollout import Rollout, parse_rollout
from lenvm.data.writing import write_rollouts
from lenvm.errors import InputError

ROWS = [{"prompt": f"question {i}", "completion": "a" * i, "prompt_id": str(i)} for i in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def read(*sources: Path, columns: dict[str, str] | None = None) -> list[RawRow]:
    files = find_files(sources)
    assert files is not None
    return list(read_rows(files, columns))


def data(rows: list[RawRow]) -> list[dict[str, Any] | None]:
    return [row.data for row in rows]


def test_json_lines_are_read_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    rows = read(path)
    assert data(rows) == ROWS
    assert [row.place for row in rows] == [f"{path}:{n}" for n in range(1, 6)]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz"])
def test_gzip_is_read_like_plain_json_lines(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(LINES))
    rows = read(path)
    assert data(rows) == ROWS
    assert rows[2].place == f"{path}:3"


@pytest.mark.parametrize(("ending", "second"), [(b"\r\n", 2), (b"\n\n", 3), (b"\n   \n", 3)])
def test_blank_lines_and_windows_line_ends_are_passed_over_but_counted(
    tmp_path: Path, ending: bytes, second: int
) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(LINES.replace(b"\n", ending))
    rows = read(path)
    assert data(rows) == ROWS
    assert rows[1].place == f"{path}:{second}"


def test_a_last_line_without_a_line_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES.rstrip())
    assert data(read(path)) == ROWS


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"prompt": "x", "comp', "not valid JSON"),
        (b'{"prompt": "\xff"}', "not valid JSON"),
        (b"[1, 2]", "expected a JSON object, got list"),
        (b'"text"', "expected a JSON object, got str"),
        (b"null", "expected a JSON object, got NoneType"),
    ],
)
def test_a_corrupt_line_is_named_by_file_and_line_and_the_others_are_read(
    tmp_path: Path, line: bytes, problem: str
) -> None:
    path = tmp_path / "a.jsonl"
    lines = LINES.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line + b"\n", *lines[2:]]))
    rows = read(path)
    assert rows[2].data is None
    assert rows[2].place == f"{path}:3"
    assert problem in str(rows[2].problem)
    assert data(rows[:2] + rows[3:]) == ROWS


def test_a_truncated_gzip_gives_its_whole_rows_and_then_the_damage(tmp_path: Path) -> None:
    # text that does not compress, so that the cut falls behind whole rows
    rng = Random(0)
    many = [{"prompt": str(rng.random()), "completion": "x"} for _ in range(3000)]
    packed = gzip.compress("".join(json.dumps(row) + "\n" for row in many).encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    rows = read(path)
    assert 1000 < len(rows) < 3000
    assert data(rows[:-1]) == many[: len(rows) - 1]
    assert rows[-1].place == f"{path}:{len(rows)}"
    assert "the gzip stream is damaged" in str(rows[-1].problem)


@pytest.mark.parametrize("damage", ["no gzip at all", "flipped bytes"])
def test_a_damaged_gzip_is_a_problem_of_the_file_not_an_exception(tmp_path: Path, damage: str) -> None:
    packed = bytearray(gzip.compress(LINES))
    packed[12:20] = b"\xff" * 8
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(LINES if damage == "no gzip at all" else bytes(packed))
    rows = read(path)
    assert "the gzip stream is damaged" in str(rows[-1].problem)
    assert rows[-1].place.startswith(f"{path}:")


def test_parquet_is_read_with_its_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)
    rows = read(path)
    assert data(rows) == ROWS
    assert [row.place for row in rows] == [f"{path}, row {n}" for n in range(5)]


def test_messages_in_parquet_may_be_structs(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"prompt": messages, "completion": "x"}]), path)
    assert data(read(path)) == [{"prompt": messages, "completion": "x"}]


@pytest.mark.parametrize("damage", ["truncated", "no parquet at all"])
def test_damaged_parquet_is_a_problem_of_the_file_not_an_exception(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    path.write_bytes(path.read_bytes()[:100] if damage == "truncated" else LINES)
    (row,) = read(path)
    assert "the Parquet file is damaged" in str(row.problem)
    assert row.place == f"{path}, row 0"


def test_a_folder_is_all_its_shards_in_order(tmp_path: Path) -> None:
    lines = LINES.splitlines(keepends=True)
    (tmp_path / "sub").mkdir()
    (tmp_path / "00.jsonl").write_bytes(lines[0])
    (tmp_path / "01.jsonl.gz").write_bytes(gzip.compress(lines[1]))
    pq.write_table(pa.Table.from_pylist(ROWS[2:3]), tmp_path / "02.parquet")
    (tmp_path / "sub" / "03.jsonl").write_bytes(b"".join(lines[3:]))
    (tmp_path / "README.md").write_text("not data")
    assert data(read(tmp_path)) == ROWS
    assert data(read(tmp_path / "sub", tmp_path / "00.jsonl")) == [*ROWS[3:], ROWS[0]]


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"holds no rollouts: expected files ending in \.jsonl, .*\.parquet"):
        find_files([tmp_path])


def test_a_file_with_another_ending_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("prompt,completion\n")
    with pytest.raises(InputError, match=r"cannot read .*rows\.txt: expected a file ending in \.jsonl.*\.csv"):
        find_files([tmp_path / "rows.txt"])


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_is_read_with_file_and_line(tmp_path: Path, name: str) -> None:
    text = '\ufeffprompt,completion,domain\r\n"two\nlines, and a ""quote""",b,\r\n\r\né中,x,math\r\n'
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    rows = read(path)
    assert data(rows) == [
        {"prompt": 'two\nlines, and a "quote"', "completion": "b", "domain": None},
        {"prompt": "é中", "completion": "x", "domain": "math"},
    ]
    assert [row.place for row in rows] == [f"{path}:2", f"{path}:5"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"a", "expected 2 cells as in the header, got 1"),
        (b"a,b,c", "expected 2 cells as in the header, got 3"),
        (b"\xff,b", "not valid UTF-8"),
        (b'"a"b,c', "not valid CSV"),
        (b'"' + b"a" * (1 << 24) + b'b",c', "not valid CSV"),
    ],
    ids=["few", "many", "bytes", "quote", "endless"],
)
def test_a_damaged_csv_row_is_named_and_the_others_are_read(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"prompt,completion\n1,x\n" + line + b"\n2,y\n")
    first, bad, last = read(path)
    assert data([first, last]) == [{"prompt": "1", "completion": "x"}, {"prompt": "2", "completion": "y"}]
    assert (bad.place, bad.data) == (f"{path}:3", None)
    assert problem in str(bad.problem)


def test_a_truncated_gzip_of_csv_gives_its_whole_rows_and_then_the_damage(tmp_path: Path) -> None:
    rng = Random(0)
    packed = gzip.compress(b"prompt,n\n" + b"".join(b"%d,1\n" % rng.getrandbits(60) for _ in range(3000)))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    *rows, last = read(path)
    assert len(rows) > 1000
    assert "the gzip stream is damaged" in str(last.problem)


def test_a_csv_file_whose_header_is_ambiguous_damaged_or_all_there_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,prompt\n1,2\n")
    with pytest.raises(InputError, match="has two columns with the name 'prompt'; give them different names"):
        read(path)
    path.write_text("prompt,completion\n")
    with pytest.raises(InputError, match="is empty"):
        read(path)
    path.write_text('"prompt"x,completion\n1,2\n')
    assert "the header is not valid CSV" in str(read(path)[0].problem)


def test_a_path_that_does_not_exist_may_be_a_dataset_name(tmp_path: Path) -> None:
    assert find_files(["someone/rollouts"]) is None
    (tmp_path / "a.jsonl").write_bytes(LINES)
    assert find_files([tmp_path / "a.jsonl", tmp_path / "missing.jsonl"]) is None


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(InputError, match="is empty: expected at least one rollout row"):
        read(path)


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)
    with pytest.raises(InputError, match="is empty"):
        read(path)


def test_columns_rename_fields_and_drop_the_others(tmp_path: Path, write_json_lines: Callable[..., Path]) -> None:
    path = write_json_lines([{"question": "q", "answer": "a", "score": 3}])
    rows = read(path, columns={"prompt": "question", "completion": "answer"})
    assert data(rows) == [{"prompt": "q", "completion": "a"}]


def test_a_missing_column_is_named_with_those_that_are_there(write_json_lines: Callable[..., Path]) -> None:
    path = write_json_lines([{"question": "q", "answer": "a"}, {"question": "q"}])
    good, bad = read(path, columns={"prompt": "question", "completion": "answer"})
    assert good.problem is None
    assert (bad.data, bad.place) == (None, f"{path}:2")
    assert bad.problem == "column 'answer' is missing; present: question"


def test_a_dataset_that_the_hub_does_not_give_is_refused() -> None:
    with pytest.raises(InputError, match="'no/such_set' is neither a file nor a folder here, nor a dataset"):
        next(read_hub_rows("no/such_set", "train"))


def test_mapped_columns_do_not_hide_that_a_completion_was_cut(write_json_lines: Callable[..., Path]) -> None:
    path = write_json_lines([{"question": "q", "answer": "a", "finish_reason": "length", "other": 1}])
    (row,) = read(path, columns={"prompt": "question", "completion": "answer"})
    assert row.data == {"prompt": "q", "completion": "a", "finish_reason": "length"}


def test_a_dataset_that_datasets_knows_is_streamed_with_its_columns_renamed(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "answer": f"a{i}", "other": i} for i in range(3)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = list(read_hub_rows(str(tmp_path), "train", {"prompt": "question", "completion": "answer"}))
    assert [row.data for row in found] == [{"prompt": f"q{i}", "completion": f"a{i}"} for i in range(3)]
    assert found[1].place == f"{tmp_path}, row 1"


@pytest.mark.parametrize(
    "rollout",
    [
        Rollout(prompt="text", completion="", prompt_id="1"),
        Rollout(prompt_ids=[1, 2], completion_ids=[3], prompt_id="1", finish_reason="length"),
        Rollout(
            prompt=[{"role": "user", "content": "é 中文 🙂\n", "name": None}],
            completion="x",
            prompt_id="1",
            domain="math",
            reference="{2}",
            images=["a.png", "b.png"],
            metadata={"sample": 3, "nested": [{"a": None}], "text": "ü"},
        ),
        Rollout(prompt='{"json": "but a text"}', completion="[]", prompt_id="1"),
        Rollout(prompt="[ unclosed", completion="{}", prompt_id="1"),
    ],
    ids=["text", "ids", "messages", "json-like", "bracket"],
)
def test_what_is_written_to_parquet_is_read_back_the_same(tmp_path: Path, rollout: Rollout) -> None:
    path = write_rollouts([rollout], tmp_path / "deep" / "rows.parquet")
    assert [parse_rollout(row.data or {}) for row in read(path)] == [rollout]
    assert [p.name for p in path.parent.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize("prompt", ["[1, 2]", "[]", '["role"]', '[{"role": "x"}]'])
def test_a_text_prompt_that_is_a_json_list_stays_a_text_in_parquet(tmp_path: Path, prompt: str) -> None:
    rollout = Rollout(prompt=prompt, completion="x", prompt_id="1")
    path = write_rollouts([rollout], tmp_path / "rows.parquet")
    assert [parse_rollout(row.data or {}) for row in read(path)] == [rollout]


def test_rows_that_fail_on_the_way_leave_no_file(tmp_path: Path) -> None:
    def broken() -> Any:
        yield Rollout(prompt="a", completion="b", prompt_id="1")
        raise KeyboardInterrupt

    (tmp_path / "rows.parquet").write_text("what was there before")
    with pytest.raises(KeyboardInterrupt):
        write_rollouts(broken(), tmp_path / "rows.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["rows.parquet"]
    assert (tmp_path / "rows.parquet").read_text() == "what was there before"

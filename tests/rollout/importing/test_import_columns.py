from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError
from lenvm.rollout.importing import Columns

Import = Callable[..., list[Rollout]]
Write = Callable[..., Path]
Row = dict[str, Any]
CHAT = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("row", "prompt", "told"),
    [
        ({"prompt": "Hi", "completion": "Ho"}, "Hi", "prompt from `prompt`, completion from `completion`."),
        ({"prompt": CHAT, "response": "Ho"}, CHAT, "prompt from `prompt`, completion from `response`."),
        (
            {"id": 1, "question": "Hi", "answer": "Ho", "domain": "math"},
            "Hi",
            "prompt from `question`, completion from `answer`, domain from `domain`; left out: `id`.",
        ),
        ({"instruction": "Hi", "output": "Ho"}, "Hi", "prompt from `instruction`, completion from `output`"),
        ({"instruction": "Say", "input": "Hi", "output": "Ho"}, "Say\nHi", "input from `input`"),
        ({"instruction": "Hi", "input": "", "output": "Ho"}, "Hi", "input from `input`"),
        ({"messages": [*CHAT, {"role": "assistant", "content": "Ho"}]}, CHAT, "messages from `messages`."),
    ],
)
def test_usual_columns_are_recognised_and_told(
    write_json_lines: Write,
    run_import: Import,
    capsys: pytest.CaptureFixture[str],
    row: Row,
    prompt: Any,
    told: str,
) -> None:
    (found,) = run_import(write_json_lines([row]))
    assert (found.prompt, found.completion) == (prompt, "Ho")
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "is read as `columns`: columns: " in shown
    assert told in shown


def test_columns_that_are_called_what_they_are_come_along_even_if_the_first_row_has_none(
    write_json_lines: Write, run_import: Import
) -> None:
    pair = {"prompt": "Hi", "completion": "Ho"}
    given = {"finish_reason": "length", "domain": "math", "reference": 42, "prompt_id": 7, "metadata": {"a": [1]}}
    plain, full, empty = run_import(write_json_lines([pair, pair | given, pair | {"domain": "", "reference": None}]))
    assert (plain.finish_reason, plain.domain) == ("stop", None)
    assert (full.finish_reason, full.domain, full.reference, full.prompt_id) == ("length", "math", "42", "7")
    assert full.metadata == {"a": [1]}
    assert (empty.domain, empty.reference) == (None, None)


def test_a_mapping_takes_its_columns_and_the_finish_reason_alone(write_json_lines: Write, run_import: Import) -> None:
    row = {"q": "Hi", "a": "Ho", "topic": "math", "domain": "other", "finish_reason": "length", "completion": "no"}
    path = write_json_lines([row])
    (found,) = run_import(path, columns={"prompt": "q", "completion": "a", "domain": "topic"})
    assert (found.prompt, found.completion, found.domain, found.finish_reason) == ("Hi", "Ho", "math", "length")


def test_a_format_object_is_taken_as_it_is(write_json_lines: Write, run_import: Import) -> None:
    row = {"chat": [*CHAT, {"role": "assistant", "content": "Ho"}], "prompt": "x", "completion": "y"}
    (found,) = run_import(write_json_lines([row]), format=Columns(columns={"messages": "chat"}))
    assert (found.prompt, found.completion) == (CHAT, "Ho")


def test_parquet_is_read_and_its_null_fields_do_not_change_a_prompt(
    tmp_path: Path, write_json_lines: Write, run_import: Import
) -> None:
    prompts = [CHAT, [{"role": "user", "content": "Hey", "name": "Ann"}]]
    path = tmp_path / "rows.parquet"
    pq.write_table(
        pa.Table.from_pylist([{"prompt": p, "completion": "Ho", "seen": date.today()} for p in prompts]), path
    )
    assert [r.prompt for r in run_import(path)] == prompts


def test_csv_is_read(tmp_path: Path, run_import: Import) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('question,answer,finish_reason\n"Hi, you","Ho\nHo",stop\nHey,"Ho",\n', encoding="utf-8")
    rows = run_import(path)
    assert [(r.prompt, r.completion, r.finish_reason) for r in rows] == [
        ("Hi, you", "Ho\nHo", "stop"),
        ("Hey", "Ho", "stop"),
    ]


TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        ({"prompt": "Hi", "completion": "Ho"}, {"prompt": "Hi"}, "column 'completion' is missing; present: prompt"),
        ({"prompt": "Hi", "completion": "Ho"}, {"prompt": "Hi", "completion": None}, "no `completion`"),
        ({"prompt": "Hi", "completion": "Ho"}, {"prompt": "", "completion": "Ho"}, "empty `prompt`"),
        ({"prompt": "Hi", "completion": "Ho"}, {"prompt": 3, "completion": "Ho"}, "`prompt` must be a text"),
        ({"prompt": "Hi", "completion": "Ho"}, {"prompt": [3], "completion": "Ho"}, "needs `role` and `content`"),
        ({"prompt": "Hi", "completion": "Ho"}, {"prompt": "Hi", "completion": ["Ho"]}, "no `completion`: expected"),
        (
            {"prompt": "Hi", "completion": "Ho"},
            {"prompt": "Hi", "completion": "Ho", "finish_reason": "eos"},
            "`finish_reason` must be `stop` or `length`, got 'eos'",
        ),
        (
            {"instruction": "Hi", "output": "Ho"},
            {"instruction": CHAT, "input": "x", "output": "Ho"},
            "`input` can only stand below a prompt if both are texts",
        ),
        ({"messages": TALK}, {"messages": "Hi"}, "`messages` must be a list of messages, got 'Hi'"),
        ({"messages": TALK}, {"messages": TALK[1:]}, "1 messages are too few"),
        ({"messages": TALK}, {"messages": TALK[::-1]}, "the last turn of `messages` must be the assistant's"),
        (
            {"messages": TALK},
            {"messages": [*CHAT, {"role": "assistant", "content": None, "tool_calls": [1]}]},
            "the last turn of `messages` has no text",
        ),
        (
            {"messages": TALK},
            {"messages": [*CHAT, {"role": "assistant", "content": "Ho", "tool_calls": [1]}]},
            "the last turn of `messages` calls tools",
        ),
    ],
)
def test_a_bad_row_is_named_or_skipped(
    write_json_lines: Write, run_import: Import, tmp_path: Path, good: Row, bad: Row, reason: str
) -> None:
    path = write_json_lines([good, bad, good])
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: .*{reason}"):
        run_import(path)
    assert not (tmp_path / "out").exists()
    assert len(run_import(path, on_bad_row="skip")) == 2


def test_what_json_cannot_hold_is_a_bad_row(tmp_path: Path, run_import: Import) -> None:
    path = tmp_path / "rows.parquet"
    row = {"prompt": "Hi", "completion": "Ho", "metadata": {"at": datetime(2026, 1, 1)}}
    pq.write_table(pa.Table.from_pylist([row]), path)
    with pytest.raises(InputError, match=r"rows\.parquet, row 0: a value of the row cannot be kept as JSON"):
        run_import(path)


def test_a_mapping_that_names_a_missing_column_says_what_there_is(
    write_json_lines: Write, run_import: Import, tmp_path: Path
) -> None:
    path = write_json_lines([{"prompt": "Hi", "completion": "Ho"}])
    for missing in ({"prompt": "q", "completion": "completion"}, {"prompt": "prompt", "completion": "q"}):
        with pytest.raises(InputError, match=r"rows\.jsonl:1: column 'q' is missing; present: completion, prompt"):
            run_import(path, columns=missing)
    columns = {"prompt": "prompt", "completion": "completion", "domain": "q"}
    with pytest.raises(InputError, match="column 'q' is missing"):
        run_import(path, columns=columns)
    with pytest.raises(InputError, match=r"no usable row in .*; the first problem was: .*column 'q' is missing"):
        run_import(path, columns=columns, on_bad_row="skip")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"promt": "q", "completion": "a"}, "`columns` names the field 'promt'; expected prompt, completion, messages"),
        ({"prompt": "q", "completion": "a", "prompt_ids": "i"}, "`columns` names the field 'prompt_ids'"),
        ({"prompt": "q"}, "must name `prompt` and `completion`, or `messages` alone, got prompt"),
        ({"messages": "m", "prompt": "q"}, "must name `prompt` and `completion`, or `messages` alone"),
        ({"messages": "m", "completion": "q"}, "must name `prompt` and `completion`, or `messages` alone"),
        ({}, "must name `prompt` and `completion`, or `messages` alone, got none"),
    ],
)
def test_mappings_that_cannot_be_meant_are_refused(
    write_json_lines: Write, run_import: Import, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_import(write_json_lines([{"prompt": "Hi", "completion": "Ho"}]), columns=columns)


def test_without_a_usual_pair_a_mapping_is_asked_for(write_json_lines: Write, run_import: Import) -> None:
    with pytest.raises(InputError, match=r"no usual pair of columns among 'q', 'a': expected .* name yours, such as"):
        run_import(write_json_lines([{"q": "Hi", "a": "Ho"}]), format="columns")

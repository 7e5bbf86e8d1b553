from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenvm.rollout.importing import source
from lenvm.rollout.importing.source import read_source

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), min_size=1, max_size=6),
    indent=st.sampled_from([None, 0, 3]),
    ascii=st.booleans(),
    chunk=st.integers(1, 40),
)
def test_an_array_is_read_alike_wherever_its_chunks_end(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], indent: int | None, ascii: bool, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("array") / "rows.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_CHUNK", chunk)
        found = list(read_source(path))
    assert [row.data for row in found] == rows
    assert [row.place for row in found] == [f"{path}, row {i}" for i in range(len(rows))]


@pytest.mark.parametrize(
    ("text", "good", "problem"),
    [
        ('[{"a": 1}, {"a": 2', 1, "not valid JSON"),
        ('[{"a": 1}, {"a": "x', 1, "not valid JSON"),
        (
            '[{"a": 1} {"a": 2}]',
            1,
            "not valid JSON .expected `,` or `]` after an element.*no row after it can be found",
        ),
        ('[{"a": 1}', 1, "not valid JSON .expected `,` or `]`"),
        ('[{"a": 1},', 1, "not valid JSON"),
        ('[{"a": 1}, {a: 2}, {"a": 3}]' + " " * 99, 1, "not valid JSON"),
        ('[{"a": 1}] x', 1, "something follows the end of the array"),
        ("[", 0, "not valid JSON"),
    ],
)
def test_a_damaged_array_gives_its_whole_rows_and_then_the_damage(
    tmp_path: Path, text: str, good: int, problem: str
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    *rows, last = read_source(path)
    assert [row.data for row in rows] == [{"a": 1}] * good
    assert last.place == f"{path}, row {good}"
    assert re.search(problem, last.problem or "")


def test_elements_that_are_no_objects_are_named_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('\ufeff[3, {"a": 1}, [{}], null]', encoding="utf-8")
    assert [row.problem or row.data for row in read_source(path)] == [
        "expected a JSON object, got int",
        {"a": 1},
        "expected a JSON object, got list",
        "expected a JSON object, got NoneType",
    ]


def test_a_packed_array_that_breaks_off_gives_its_whole_rows_and_then_the_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_CHUNK", 1000)
    rng = Random(0)
    rows = [{"a": rng.random()} for _ in range(3000)]
    packed = gzip.compress(json.dumps(rows).encode())
    path = tmp_path / "rows.json.gz"
    path.write_bytes(packed[: len(packed) // 2])
    *found, last = read_source(path)
    assert [row.data for row in found] == rows[: len(found)]
    assert len(found) > 1000
    assert "the gzip stream is damaged" in (last.problem or "")
    path.write_bytes(b"[{}]")
    (only,) = read_source(path)
    assert "the gzip stream is damaged" in (only.problem or "")


def test_a_row_that_never_ends_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_CHUNK", 10)
    monkeypatch.setattr(source, "_LONGEST", 100)
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, {"a": "' + "x" * 10_000, encoding="utf-8")
    good, bad = read_source(path)
    assert good.data == {"a": 1}
    assert "not valid JSON" in (bad.problem or "")

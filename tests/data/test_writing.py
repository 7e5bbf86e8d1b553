from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from lenvm.data.rollout import Rollout
from lenvm.data.writing import shard_facts, write_rollouts

ROW = Rollout(prompt="a", completion="b", prompt_id="1")


def test_facts_come_back(tmp_path: Path) -> None:
    facts = {"tokenizer": "0123", "generator": "ü/x", "sampling": {"temperature": 1.0}, "revision": None}
    assert shard_facts(write_rollouts([ROW], tmp_path / "a.parquet", facts=facts)) == facts
    assert shard_facts(write_rollouts([], tmp_path / "empty.parquet", facts=facts)) == facts
    assert shard_facts(write_rollouts([ROW], tmp_path / "b.parquet")) == {}


def test_a_file_without_facts_has_none(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    table = pq.read_table(write_rollouts([ROW], tmp_path / "a.parquet"))
    for i, text in enumerate((b"no JSON", b"[1]")):
        pq.write_table(table.replace_schema_metadata({b"lenvm.rollout": text}), tmp_path / f"foreign{i}.parquet")
    assert [shard_facts(path) for path in tmp_path.iterdir()] == [{}] * 5


def test_the_content_is_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], int]] = []
    sync = os.fsync

    def watched(handle: int) -> None:
        seen.append((sorted(p.name for p in tmp_path.iterdir()), os.fstat(handle).st_size))
        sync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    path = write_rollouts([ROW], tmp_path / "a.parquet")
    assert seen[0] == (["a.parquet.partial"], path.stat().st_size)
    assert [names for names, _ in seen[1:]] == [["a.parquet"]]


def test_token_ids_are_written_without_a_dictionary(tmp_path: Path) -> None:
    ids = torch.randint(0, 150_000, (64, 50)).tolist()
    rows = [Rollout(prompt_ids=i, completion_ids=i, prompt_id="1", domain="math") for i in ids]
    group = pq.ParquetFile(write_rollouts(rows, tmp_path / "a.parquet")).metadata.row_group(0)
    columns = {c.path_in_schema.split(".")[0]: c for c in map(group.column, range(group.num_columns))}
    dictionaries = {name for name, c in columns.items() if "RLE_DICTIONARY" in c.encodings}
    assert {"prompt_id", "domain", "finish_reason"} <= dictionaries
    assert not {"prompt_ids", "completion_ids"} & dictionaries
    assert {c.compression for c in columns.values()} == {"ZSTD"}


def test_long_completions_are_written_in_small_groups(tmp_path: Path) -> None:
    rows = [Rollout(prompt_ids=[1], completion_ids=[7] * 300_000, prompt_id=str(i)) for i in range(9)]
    path = write_rollouts(rows, tmp_path / "long.parquet")
    table = pq.ParquetFile(path)
    assert [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)] == [4, 4, 1]
    assert table.read()["prompt_id"].to_pylist() == [str(i) for i in range(9)]
    table.close()

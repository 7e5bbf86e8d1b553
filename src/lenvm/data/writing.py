"""Rollout rows to Parquet, the format the project writes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lenvm.data.rollout import Rollout

_SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("completion_ids", pa.list_(pa.int32())),
        ("prompt_id", pa.string()),
        ("finish_reason", pa.string()),
        ("domain", pa.string()),
        ("reference", pa.string()),
        ("images", pa.list_(pa.string())),
        ("metadata", pa.string()),
    ]
)
_ROWS_PER_GROUP = 4096


def write_rollouts(rollouts: Iterable[Rollout], path: str | Path) -> Path:
    """Writes rows to one Parquet file; the file appears whole or not at all.

    Chat messages and metadata are stored as JSON texts, since their shape may differ from row to row.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    rows = iter(rollouts)
    try:
        with pq.ParquetWriter(partial, _SCHEMA, compression="zstd") as writer:
            while group := [_flat(rollout) for rollout in islice(rows, _ROWS_PER_GROUP)]:
                writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _flat(rollout: Rollout) -> dict[str, object]:
    row = dict(vars(rollout))
    if isinstance(rollout.prompt, list):
        row["prompt"] = json.dumps(rollout.prompt, ensure_ascii=False)
    if rollout.metadata is not None:
        row["metadata"] = json.dumps(rollout.metadata, ensure_ascii=False)
    return row

"""Rollout rows to Parquet, the format the project writes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lenvm.data.rollout import Rollout

JSON_COLUMN = {b"encoding": b"json-where-marked"}
"""Marks columns in which a text that starts with one of [, { and " is JSON; every other text is itself."""

_SCHEMA = pa.schema(
    [
        pa.field("prompt", pa.string(), metadata=JSON_COLUMN),
        ("completion", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("completion_ids", pa.list_(pa.int32())),
        ("prompt_id", pa.string()),
        ("finish_reason", pa.string()),
        ("domain", pa.string()),
        ("reference", pa.string()),
        ("images", pa.list_(pa.string())),
        pa.field("metadata", pa.string(), metadata=JSON_COLUMN),
    ]
)
JSON_STARTS = ("[", "{", '"')
_ROWS_PER_GROUP = 4096


def write_rollouts(rollouts: Iterable[Rollout], path: str | Path) -> Path:
    """Writes rows to one Parquet file; the file appears whole or not at all.

    Chat messages and metadata are stored as JSON texts, since their shape may differ from row to row; so are the few
    text prompts that might be mistaken for them.
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
    for name in ("prompt", "metadata"):
        value = row[name]
        if value is not None and not (isinstance(value, str) and value[:1] not in JSON_STARTS):
            row[name] = json.dumps(value, ensure_ascii=False)
    return row

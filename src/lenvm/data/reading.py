"""Rows with their place, from JSON Lines and CSV (plain or gzip), Parquet, folders of them, or a dataset by name."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lenvm.data.rollout import BadRowError
from lenvm.data.writing import JSON_COLUMN, JSON_STARTS
from lenvm.errors import InputError

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json.gz", ".ndjson", ".parquet", ".csv", ".csv.gz")
_PARQUET_ROWS = 1024
_LONGEST_CELL = 1 << 24
"""Characters; a quote that is never closed would otherwise read the rest of the file into one cell."""


@dataclass(frozen=True, kw_only=True)
class RawRow:
    """A row before it is checked.

    Args:
        place: where it came from, for people: `FILE:LINE` or `FILE, row N`.
        data: the row's fields, or None if it could not be read at all.
        problem: why it could not be read.
    """

    place: str
    data: dict[str, Any] | None = None
    problem: str | None = None

    @property
    def content(self) -> dict[str, Any]:
        """The row's fields.

        Raises:
            BadRowError: if it could not be read.
        """
        if self.data is None:
            raise BadRowError(self.problem or "unreadable")
        return self.data


def find_files(sources: Sequence[str | Path]) -> list[Path] | None:
    """The files that `sources` (files, or folders of shards) stand for, in order; None if one is no local path.

    Raises:
        InputError: if a folder holds no data, or if a file has an ending that is not known.
    """
    files: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            shards = data_files(source)
            if not shards:
                raise InputError(
                    f"the folder {source} holds no rollouts: expected files ending in {', '.join(_SUFFIXES)}."
                )
            files += shards
        elif source.is_file():
            if not source.name.endswith(_SUFFIXES):
                raise InputError(f"cannot read {source}: expected a file ending in {', '.join(_SUFFIXES)}.")
            files.append(source)
        else:
            return None
    return files


def data_files(folder: Path) -> list[Path]:
    """All files in a folder, and in folders of it, that may hold rows, in order."""
    return sorted(p for p in folder.rglob("*") if p.name.endswith(_SUFFIXES) and _is_shard(p, folder))


def _is_shard(path: Path, folder: Path) -> bool:
    """Whether a file of a folder is data: what begins with `_` or `.` is somebody's bookkeeping."""
    return path.is_file() and not any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)


def read_rows(files: Sequence[Path], columns: dict[str, str] | None = None) -> Iterator[RawRow]:
    """All rows of all files in order, one at a time; memory does not grow with their number.

    Args:
        files: what `find_files` returned.
        columns: rollout field to the name it has in the files; given, all other columns but
            `finish_reason` are ignored.
    """
    for file in files:
        rows = _reader(file)(file)
        empty = True
        for row in rows:
            empty = False
            yield _renamed(row, columns)
        if empty:
            raise InputError(f"{file} is empty: expected at least one rollout row.")


def read_hub_rows(name: str, split: str, columns: dict[str, str] | None = None) -> Iterator[RawRow]:
    """All rows of a dataset that `datasets.load_dataset` knows by name, streamed."""
    import datasets

    try:
        rows = datasets.load_dataset(name, split=split, streaming=True)
    except Exception as error:  # the hub client raises many unrelated types
        raise InputError(
            f"{name!r} is neither a file nor a folder here, nor a dataset that the hub gives "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); check the path or name."
        ) from error
    for number, data in enumerate(rows):
        yield _renamed(RawRow(place=f"{name}, row {number}", data=dict(data)), columns)


def _reader(file: Path) -> Callable[[Path], Iterator[RawRow]]:
    if file.name.endswith((".csv", ".csv.gz")):
        return _read_csv
    return _read_parquet if file.suffix == ".parquet" else _read_json_lines


def _read_csv(file: Path) -> Iterator[RawRow]:
    """Rows of a file with a header; an empty cell counts as absent, since CSV has no other way to say so."""
    csv.field_size_limit(_LONGEST_CELL)
    number = 0
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            # a byte that is no UTF-8 makes its row unusable, not the rest of the file
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
            reader = csv.reader(text, strict=True)
            header = next(reader, [])
            if repeated := sorted({name for name in header if header.count(name) > 1}):
                raise InputError(f"{file} has two columns with the name {repeated[0]!r}; give them different names.")
            while True:
                number = reader.line_num
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    yield RawRow(place=f"{file}:{number + 1}", problem=f"not valid CSV ({error})")
                    continue
                if cells is None:
                    return
                if cells:
                    yield _parse_cells(f"{file}:{number + 1}", header, cells)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield RawRow(place=f"{file}:{number + 1}", problem=f"the gzip stream is damaged ({error})")
    except csv.Error as error:
        yield RawRow(place=f"{file}:1", problem=f"the header is not valid CSV ({error})")


def _parse_cells(place: str, header: list[str], cells: list[str]) -> RawRow:
    if len(cells) != len(header):
        return RawRow(place=place, problem=f"expected {len(header)} cells as in the header, got {len(cells)}")
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return RawRow(place=place, problem="not valid UTF-8")
    return RawRow(place=place, data={name: cell or None for name, cell in zip(header, cells, strict=True)})


def _read_json_lines(file: Path) -> Iterator[RawRow]:
    opener = gzip.open if file.suffix == ".gz" else open
    number = 0
    try:
        with opener(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _parse_line(f"{file}:{number}", line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield RawRow(place=f"{file}:{number + 1}", problem=f"the gzip stream is damaged ({error})")


def _parse_line(place: str, line: bytes) -> RawRow:
    try:
        data = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        return RawRow(place=place, problem=f"not valid JSON ({error})")
    if not isinstance(data, dict):
        return RawRow(place=place, problem=f"expected a JSON object, got {type(data).__name__}")
    return RawRow(place=place, data=data)


def _read_parquet(file: Path) -> Iterator[RawRow]:
    number = 0
    try:
        with pq.ParquetFile(file) as table:
            json_columns = [f.name for f in table.schema_arrow if JSON_COLUMN.items() <= (f.metadata or {}).items()]
            for batch in table.iter_batches(batch_size=_PARQUET_ROWS):
                for data in batch.to_pylist():
                    yield RawRow(place=f"{file}, row {number}", data=_decoded(data, json_columns))
                    number += 1
    except (pa.ArrowInvalid, OSError) as error:
        yield RawRow(place=f"{file}, row {number}", problem=f"the Parquet file is damaged ({error})")


def _decoded(data: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """Undoes what `write_rollouts` does to columns whose rows differ in shape."""
    for name in columns:
        value = data[name]
        if isinstance(value, str) and value[:1] in JSON_STARTS:
            data[name] = json.loads(value)
    return data


def _renamed(row: RawRow, columns: dict[str, str] | None) -> RawRow:
    if columns is None or row.data is None:
        return row
    if missing := [column for column in columns.values() if column not in row.data]:
        present = ", ".join(sorted(row.data)) or "none"
        return RawRow(place=row.place, problem=f"column {missing[0]!r} is missing; present: {present}")
    data = {name: row.data[column] for name, column in columns.items()}
    if "finish_reason" in row.data:
        # ignored, it would turn every completion that was cut into one that ended, without a word
        data.setdefault("finish_reason", row.data["finish_reason"])
    return RawRow(place=row.place, data=data)

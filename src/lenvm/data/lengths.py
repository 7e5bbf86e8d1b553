"""How long the completions of rollout files are, without their tokens: a few bytes per row, however many there are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.reading import RawRow, read_rows
from lenvm.data.rollout import FIELDS, BadRowError, Rollout, parse_rollout
from lenvm.errors import InputError

NO_DOMAIN = "(none)"
"""Stands for the domain of rows that name none."""

_COLUMNS = ["prompt_id", "domain", "completion_ids", "finish_reason"]
_TEXT_ROWS, _COLUMN_ROWS = 512, 16_384
Number = TypeVar("Number", np.uint64, np.int32)


@dataclass(frozen=True, kw_only=True)
class CompletionLengths:
    """Of every row what statistics of lengths need.

    Args:
        length: tokens of the completion, as many as were seen; (N,).
        finished: whether that is all of it; (N,).
        prompt: a hash of the `prompt_id`; (N,).
        domain: index into `domains`; (N,).
        domains: names, in the order in which they occur.
    """

    length: NDArray[np.int32]
    finished: NDArray[np.bool_]
    prompt: NDArray[np.uint64]
    domain: NDArray[np.int32]
    domains: list[str]


class _Chunk(NamedTuple):
    length: NDArray[np.int32]
    finished: NDArray[np.bool_]
    prompt_ids: pa.Array
    domains: pa.Array


def read_lengths(files: Sequence[Path], encoder: RolloutEncoder | None) -> CompletionLengths:
    """Reads the lengths of all rows; of Parquet files with token ids, only the columns that say them.

    Args:
        files: what `find_files` returned.
        encoder: turns text rows into tokens; not needed for rows that bring ids.

    Raises:
        InputError: for a bad row, with its place, or for a text row without an encoder.
    """
    lengths, finished, prompts, domains = [], [], [], []
    known: dict[str, int] = {}
    columns = SpinnerColumn(), TextColumn("{task.description} {task.completed:,} rows"), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Reading", total=None)
        for file in files:
            for chunk in _from_columns(file) if _has_plain_columns(file) else _from_rows(file, encoder):
                lengths.append(chunk.length)
                finished.append(chunk.finished)
                prompts.append(_for_each_text(chunk.prompt_ids, _digest, np.uint64))
                domains.append(_for_each_text(chunk.domains, lambda d: known.setdefault(d, len(known)), np.int32))
                progress.advance(task, len(chunk.length))
    return CompletionLengths(
        length=np.concatenate(lengths),
        finished=np.concatenate(finished),
        prompt=np.concatenate(prompts),
        domain=np.concatenate(domains),
        domains=list(known),
    )


def _has_plain_columns(file: Path) -> bool:
    """Whether the footer shows that every row has ids and nothing that `parse_rollout` would refuse or change."""
    if file.suffix != ".parquet":
        return False
    try:
        with pq.ParquetFile(file) as table:
            schema = table.schema_arrow
            types = {field.name: field.type for field in schema}
            texts = all(_is_text(types[name]) for name in ("prompt_id", "domain", "finish_reason") if name in types)
            ids = all(_is_ids(types.get(name)) for name in ("prompt_ids", "completion_ids"))
            return (
                table.metadata.num_rows > 0
                and set(types) <= set(FIELDS)
                and "prompt_id" in types
                and texts
                and ids
                and _is_complete(table.metadata)
                and _reasons(table) <= {"stop", "length", None}
            )
    except (pa.ArrowInvalid, OSError):  # reading row by row says where
        return False


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_ids(kind: pa.DataType | None) -> bool:
    return kind is not None and pa.types.is_list(kind) and pa.types.is_integer(kind.value_type)


def _is_complete(metadata: pq.FileMetaData) -> bool:
    """Whether no list of ids is empty or null or has a negative id, and no prompt id is null."""
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        for column in (group.column(i) for i in range(group.num_columns)):
            name = column.path_in_schema.split(".")[0]
            if name not in ("prompt_ids", "completion_ids", "prompt_id"):
                continue
            facts = column.statistics
            if facts is None or not facts.has_null_count or facts.null_count > 0:
                return False
            if name != "prompt_id" and not (facts.has_min_max and facts.min >= 0):
                return False
    return True


def _reasons(table: pq.ParquetFile) -> set[str | None]:
    if "finish_reason" not in table.schema_arrow.names:
        return set()
    batches = table.iter_batches(batch_size=_COLUMN_ROWS, columns=["finish_reason"])
    return {reason for batch in batches for reason in pc.unique(batch.column(0)).to_pylist()}


def _from_columns(file: Path) -> Iterator[_Chunk]:
    try:
        with pq.ParquetFile(file) as table:
            present = [name for name in _COLUMNS if name in table.schema_arrow.names]
            for batch in table.iter_batches(batch_size=_COLUMN_ROWS, columns=present):
                nothing = pa.nulls(len(batch), pa.string())
                reasons = batch["finish_reason"] if "finish_reason" in present else nothing
                yield _Chunk(
                    length=pc.list_value_length(batch["completion_ids"]).to_numpy().astype(np.int32),
                    finished=pc.fill_null(pc.equal(reasons, "stop"), True).to_numpy(zero_copy_only=False),
                    prompt_ids=batch["prompt_id"],
                    domains=pc.fill_null(batch["domain"] if "domain" in present else nothing, NO_DOMAIN),
                )
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file}: the Parquet file is damaged ({error}).") from error


def _from_rows(file: Path, encoder: RolloutEncoder | None) -> Iterator[_Chunk]:
    rows = read_rows([file])
    while chunk := list(islice(rows, _TEXT_ROWS)):
        parsed = [_parsed(row, encoder) for row in chunk]
        yield _Chunk(
            length=np.array(_row_lengths(chunk, parsed, encoder), dtype=np.int32),
            finished=np.array([rollout.finish_reason == "stop" for rollout in parsed]),
            prompt_ids=pa.array([rollout.prompt_id for rollout in parsed], pa.string()),
            domains=pa.array([rollout.domain or NO_DOMAIN for rollout in parsed], pa.string()),
        )


def _parsed(row: RawRow, encoder: RolloutEncoder | None) -> Rollout:
    try:
        rollout = parse_rollout(row.content)
    except BadRowError as error:
        raise InputError(f"{row.place}: {error}; mend the row.") from error
    if encoder is None and not rollout.has_ids:
        raise InputError(
            f"{row.place} has text but no token ids, so its length depends on the tokenizer; name the generator's with "
            "`--tokenizer`."
        )
    return rollout


def _row_lengths(rows: list[RawRow], parsed: list[Rollout], encoder: RolloutEncoder | None) -> list[int]:
    if encoder is None:
        return [len(rollout.completion_ids or []) for rollout in parsed]
    found = []
    for row, encoded in zip(rows, encoder.encode(parsed), strict=True):
        if isinstance(encoded, BadRowError):
            raise InputError(f"{row.place}: {encoded}; mend the row.") from encoded
        found.append(len(encoded.completion_ids))
    return found


def _for_each_text(texts: pa.Array, number: Callable[[str], int], dtype: type[Number]) -> NDArray[Number]:
    """A number per row; `number` is asked once per different text."""
    coded = texts.dictionary_encode()
    numbers = np.array([number(text) for text in coded.dictionary.to_pylist()], dtype=dtype)
    of_rows: NDArray[Number] = numbers[coded.indices.to_numpy()]
    return of_rows


def _digest(text: str) -> int:
    # eight bytes: two of ten million prompts are taken for one with a chance of 3 in a million
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())

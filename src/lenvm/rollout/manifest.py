"""Which (prompt, sample) pairs a folder of shards holds, and which prompts a run has seen: sets that live on disk."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lenvm.data.reading import find_files, read_rows
from lenvm.data.rollout import BadRowError, parse_rollout
from lenvm.errors import InputError

_FORMAT = 1
_ROWS = 1024
_TABLES = """
CREATE TABLE shards (name TEXT PRIMARY KEY, size INTEGER, completions INTEGER, tokens INTEGER, cut INTEGER);
CREATE TABLE done (prompt_id TEXT PRIMARY KEY, samples BLOB) WITHOUT ROWID;
"""
_DONE = "INSERT INTO done VALUES (?, ?) ON CONFLICT (prompt_id) DO UPDATE SET samples = excluded.samples"


class Totals(NamedTuple):
    """What the shards hold: prompts with at least one completion, completions, their tokens, and how many were cut."""

    prompts: int
    completions: int
    tokens: int
    cut: int


class Manifest:
    """The pairs in the shards of a folder.

    The shards are the truth: a manifest that does not fit them (a kill came between the two, a shard was removed, the
    file is damaged) is made anew from them.

    Args:
        path: the SQLite file.
        shards: the shards that there are.
    """

    def __init__(self, path: Path, shards: Sequence[Path]) -> None:
        self._path = path
        try:
            self._open()
            known: dict[str, int] | None = dict(self._db.execute("SELECT name, size FROM shards"))
        except sqlite3.DatabaseError:
            known = None
        present = {shard.name: shard.stat().st_size for shard in shards}
        if known is None or not known.items() <= present.items():
            known = self._emptied()
        for shard in shards:
            if shard.name not in known:
                self.add(shard)

    def samples(self, prompt_id: str) -> set[int]:
        """Numbers of the samples of a prompt that are there."""
        found = self._db.execute("SELECT samples FROM done WHERE prompt_id = ?", (prompt_id,)).fetchone()
        return set() if found is None else set(_numbers(found[0]))

    def add(self, shard: Path) -> None:
        """Takes a shard in.

        Raises:
            InputError: if it cannot be read.
        """
        completions = tokens = cut = 0
        with _as_os_error(self._path), self._db:
            for batch in _columns(shard):
                ids, reasons = batch["completion_ids"], batch["finish_reason"]
                completions += len(batch)
                tokens += pc.sum(pc.list_value_length(ids)).as_py() or 0
                cut += pc.sum(pc.equal(reasons, "length")).as_py() or 0
                pairs: dict[str, set[int]] = {}
                for prompt_id, metadata in zip(
                    batch["prompt_id"].to_pylist(), batch["metadata"].to_pylist(), strict=True
                ):
                    pairs.setdefault(prompt_id, set()).add(int(json.loads(metadata)["sample"]))
                self._db.executemany(_DONE, ((p, _bitmap(s | self.samples(p))) for p, s in pairs.items()))
            facts = (shard.name, shard.stat().st_size, completions, tokens, cut)
            self._db.execute("INSERT INTO shards VALUES (?, ?, ?, ?, ?)", facts)

    def totals(self) -> Totals:
        """What is there."""
        sums = "coalesce(sum(completions), 0), coalesce(sum(tokens), 0), coalesce(sum(cut), 0)"
        (prompts,) = self._db.execute("SELECT count(*) FROM done").fetchone()
        return Totals(prompts, *self._db.execute(f"SELECT {sums} FROM shards").fetchone())

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _open(self) -> None:
        self._db = sqlite3.connect(self._path)
        if self._db.execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
            raise sqlite3.DatabaseError("made by another version")

    def _emptied(self) -> dict[str, int]:
        self._db.close()
        for suffix in ("", "-journal"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        with _as_os_error(self._path):
            self._db = sqlite3.connect(self._path)
            self._db.executescript(f"{_TABLES} PRAGMA user_version = {_FORMAT};")
        return {}


class PromptIds:
    """Prompt ids that were seen, each with a digest of its prompt; in a temporary file, so that memory stays small."""

    def __init__(self) -> None:
        # an empty name is SQLite's own for a private file that is gone with the process
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE seen (prompt_id TEXT PRIMARY KEY, digest BLOB) WITHOUT ROWID; BEGIN;"
        )

    def add(self, prompt_id: str, digest: bytes = b"") -> bytes | None:
        """Adds an id; returns the digest that it had already, None if it is new."""
        with _as_os_error("a temporary file of SQLite, where TMPDIR says"):
            added = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (prompt_id, digest)).rowcount
        if added:
            return None
        digest_before: bytes = self._db.execute("SELECT digest FROM seen WHERE prompt_id = ?", (prompt_id,)).fetchone()[
            0
        ]
        return digest_before

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM seen").fetchone()[0])

    def __contains__(self, prompt_id: object) -> bool:
        return self._db.execute("SELECT 1 FROM seen WHERE prompt_id = ?", (prompt_id,)).fetchone() is not None


def prompt_ids_in(sources: Sequence[Path]) -> PromptIds:
    """The prompts of all rollouts in these folders and files.

    Raises:
        InputError: if one is missing or damaged, or holds rows without a prompt.
    """
    found = PromptIds()
    for source in sources:
        files = find_files([source])
        if files is None:
            raise InputError(f"{source} does not exist; `exclude` takes folders or files of rollouts.")
        for row in read_rows(files):
            try:
                found.add(parse_rollout(row.content).prompt_id)
            except BadRowError as error:
                raise InputError(f"{row.place}: {error}.") from error
    return found


def _columns(shard: Path) -> Iterator[dict[str, pa.Array]]:
    names = ["prompt_id", "metadata", "finish_reason", "completion_ids"]
    try:
        with pq.ParquetFile(shard) as table:
            yield from table.iter_batches(_ROWS, columns=names)
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{shard} is damaged ({reason}); remove it, and its completions are sampled again.") from error


def _bitmap(samples: Iterable[int]) -> bytes:
    number = sum(1 << sample for sample in samples)
    return number.to_bytes((number.bit_length() + 7) // 8, "little")


def _numbers(bitmap: bytes) -> Iterator[int]:
    number = int.from_bytes(bitmap, "little")
    return (i for i in range(number.bit_length()) if number >> i & 1)


@contextmanager
def _as_os_error(place: Path | str) -> Iterator[None]:
    """SQLite has its own way of saying that there is no space, or that a quota is used up."""
    reasons = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_IOERR: errno.EIO}
    try:
        yield
    except sqlite3.OperationalError as error:
        if (number := reasons.get(error.sqlite_errorcode & 0xFF)) is not None:
            raise OSError(number, os.strerror(number), str(place)) from error
        raise

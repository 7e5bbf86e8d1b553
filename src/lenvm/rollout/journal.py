"""Completions that are in no shard yet: one line each, on disk the moment they are finished."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lenvm.data.rollout import Rollout


class Entry(NamedTuple):
    """A line of the journal.

    Attributes:
        prompt_id: the completion's prompt.
        sample: its number among the samples of its prompt.
        offset: where the line begins, in bytes.
    """

    prompt_id: str
    sample: int
    offset: int


class Journal:
    """An append-only file of rollouts; what was appended survives the process, though not the machine.

    Rows are not kept in memory: entries say where they are.

    Args:
        path: the file; it is made if there is none. A last line that was cut by a kill or a full disk is removed.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b", buffering=0)
        self._end = self._whole_lines()
        self._file.truncate(self._end)

    def entries(self) -> list[Entry]:
        """All lines in the order they came; what a loss of power has damaged is passed over, and sampled again."""
        self._file.seek(0)
        found, offset = [], 0
        for line in self._lines():
            with suppress(ValueError):
                row = json.loads(line)
                found.append(Entry(row["prompt_id"], row["metadata"]["sample"], offset))
            offset += len(line)
        return found

    def append(self, rollout: Rollout) -> Entry:
        """Adds a line.

        Raises:
            OSError: if it cannot be written, for lack of space for example; no part of it is left then.
        """
        line = json.dumps({name: value for name, value in vars(rollout).items() if value is not None}).encode() + b"\n"
        entry = Entry(rollout.prompt_id, sample_of(rollout), self._end)
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            self._file.truncate(self._end)
            raise
        self._end += len(line)
        return entry

    def read(self, entries: Iterable[Entry]) -> Iterator[Rollout]:
        """The rollouts of these entries, in their order."""
        for entry in entries:
            self._file.seek(entry.offset)
            yield Rollout(**json.loads(next(self._lines())))

    def clear(self) -> None:
        """Removes all lines."""
        self._file.truncate(0)
        self._end = 0

    def close(self) -> None:
        """Closes the file; its lines stay."""
        self._file.close()

    def _lines(self) -> Iterator[bytes]:
        """Lines from the current place on."""
        rest = b""
        while chunk := self._file.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line + b"\n"

    def _whole_lines(self) -> int:
        """Bytes up to the end of the last whole line."""
        size = end = self._file.seek(0, 2)
        while end > 0:
            start = max(end - (1 << 16), 0)
            self._file.seek(start)
            place = self._file.read(end - start).rfind(b"\n")
            if place >= 0:
                return min(start + place + 1, size)
            end = start
        return 0


def sample_of(rollout: Rollout) -> int:
    """A rollout's number among the samples of its prompt."""
    return int((rollout.metadata or {})["sample"])

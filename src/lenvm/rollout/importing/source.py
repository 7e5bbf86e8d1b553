"""Rows of one foreign file: whatever `lenvm.data.reading` knows, and JSON arrays."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any

from lenvm.data.reading import RawRow, find_files, read_rows
from lenvm.errors import InputError

_CHUNK = 1 << 20
_LONGEST = 1 << 28  # characters of one row; a quotation mark that is never closed must not fill the memory
_NEAR_END = 16  # longest piece of JSON that is not a text and that the end of a chunk can cut
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)


def read_source(file: Path) -> Generator[RawRow, None, None]:
    """All rows of a file in order, one at a time; memory does not grow with their number.

    Args:
        file: JSON Lines or one JSON array (both plain or gzip), CSV or Parquet.

    Raises:
        InputError: if there is no such file, if its ending is not known, or if it is empty.
    """
    if not file.is_file():
        what = "is a folder; give one of its files" if file.is_dir() else "does not exist; check the path"
        raise InputError(f"{file} {what}.")
    if _is_array(file):
        yield from _read_array(file)
        return
    if file.suffix != ".json":
        find_files([file])  # refuses endings that are not known
    yield from read_rows([file])


def _is_array(file: Path) -> bool:
    if not file.name.endswith((".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz")):
        return False
    try:
        with _opened(file) as stream:
            while (first := stream.read(1)).isspace():
                pass
        return first == "["
    except _DAMAGED:
        return False  # the reader of lines tells what is wrong


def _opened(file: Path) -> IO[str]:
    opener: Any = gzip.open if file.suffix == ".gz" else open
    stream: IO[str] = opener(file, "rt", encoding="utf-8-sig", errors="surrogateescape")
    return stream


def _read_array(file: Path) -> Iterator[RawRow]:
    number = 0
    try:
        with _opened(file) as stream:
            for number, value in enumerate(_elements(stream)):
                if isinstance(value, dict):
                    yield RawRow(place=f"{file}, row {number}", data=value)
                else:
                    problem = f"expected a JSON object, got {type(value).__name__}"
                    yield RawRow(place=f"{file}, row {number}", problem=problem)
                number += 1
    except json.JSONDecodeError as error:
        problem = f"not valid JSON ({error.msg}), and no row after it can be found"
        yield RawRow(place=f"{file}, row {number}", problem=problem)
        return
    except _DAMAGED as error:
        yield RawRow(place=f"{file}, row {number}", problem=f"the gzip stream is damaged ({error})")
        return
    if number == 0:
        raise InputError(f"{file} is empty: expected at least one row.")


def _elements(stream: IO[str]) -> Iterator[Any]:
    """The elements of a JSON array, decoded one by one as the stream is read."""
    decode, buffer = json.JSONDecoder().raw_decode, _Buffer(stream)
    buffer.position = buffer.next_at() + 1
    start = buffer.next_at()
    if buffer.text[start : start + 1] != "]":
        while True:
            start = buffer.next_at()
            while True:
                try:
                    value, end = decode(buffer.text, start)
                    if end < len(buffer.text) or not buffer.grow():
                        break
                except json.JSONDecodeError as error:
                    cut = error.msg.startswith("Unterminated string") or error.pos > len(buffer.text) - _NEAR_END
                    if not (cut and len(buffer.text) - start < _LONGEST and buffer.grow()):
                        raise
            buffer.position = end
            yield value
            follows = buffer.next_at()
            if buffer.text[follows : follows + 1] != ",":
                break
            buffer.position = follows + 1
            buffer.drop()
    closing = buffer.next_at()
    if buffer.text[closing : closing + 1] != "]":
        raise json.JSONDecodeError("expected `,` or `]` after an element", "", 0)
    buffer.position = closing + 1
    if buffer.next_at() < len(buffer.text):
        raise json.JSONDecodeError("something follows the end of the array", "", 0)


class _Buffer:
    """A window on a stream of text that grows at its end.

    Args:
        stream: where the text comes from.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.text, self.position = "", 0

    def grow(self) -> bool:
        """Reads on, at least as much again as there is: decoding the same start repeatedly stays cheap."""
        more = self._stream.read(max(_CHUNK, len(self.text) - self.position))
        self.text += more
        return bool(more)

    def next_at(self) -> int:
        """Where the next character is that is no white space; the end of the text at the end of the stream."""
        at = self.position
        while True:
            while at < len(self.text) and self.text[at].isspace():
                at += 1
            if at < len(self.text) or not self.grow():
                return at

    def drop(self) -> None:
        """Forgets the text before the position, now and then."""
        if self.position > _CHUNK:
            self.text, self.position = self.text[self.position :], 0

"""Prompts that could not be completed, in a file; too many of them end the run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from lenvm.errors import InputError
from lenvm.rollout.engines import Failed


class FailureLog:
    """The failures of this run, one JSON object a line; those of the run before are tried again, and forgotten.

    Attributes:
        count: how many there are.
        first: the first of them.

    Args:
        path: the file; None only counts.
        limit: how many there may be.
    """

    def __init__(self, path: Path | None, limit: int) -> None:
        if limit < 0:
            raise InputError(f"`max_failures` must be 0 or more, got {limit}.")
        self.path, self.count, self.first = path, 0, ""
        self._limit = limit
        self._file = None if path is None else path.open("w", encoding="utf-8")

    def add(self, failed: Failed) -> None:
        """Notes a failure.

        Raises:
            InputError: if it is one too many.
        """
        self.count += 1
        failed = failed._replace(reason=_without_name(failed))
        self.first = self.first or f"{failed.prompt_id}: {failed.reason}"
        if self._file is not None:
            self._file.write(json.dumps(failed._asdict()) + "\n")
            self._file.flush()
        if self.count > self._limit:
            raise InputError(
                f"{self.count} prompt(s) failed, and `max_failures` is {self._limit}; the first was {self.first}. What "
                "was finished is kept; mend them or raise `max_failures`, and the same command goes on from there."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def _without_name(failed: Failed) -> str:
    """The reason as the end of a sentence that begins with the prompt's id."""
    return re.sub(f"^prompt {re.escape(failed.prompt_id)}:? ", "", failed.reason).rstrip(".")

"""The requests of a batch by their `custom_id`, on disk: there may be millions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lenvm.data.reading import RawRow
from lenvm.data.rollout import BadRowError
from lenvm.errors import InputError
from lenvm.rollout.importing.base import Row, convert_each, shown


class BatchRequests:
    """A table from `custom_id` to the body of the request, in a temporary SQLite file that nobody sees."""

    def __enter__(self) -> Self:
        # an empty name is SQLite's own for a private file that is gone with the process, even if that is killed
        self._table = sqlite3.connect("", isolation_level=None)
        # nothing in it outlives this process, so nothing has to survive a crash
        for statement in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF"):
            self._table.execute(statement)
        self._table.execute("CREATE TABLE requests (custom_id TEXT, body TEXT)")
        self._table.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()

    def load(self, rows: Iterable[RawRow], file: Path) -> Iterator[RawRow]:
        """Takes the rows of a batch's input; yields those that cannot be used.

        Args:
            rows: rows of the file.
            file: its name, for errors.

        Raises:
            InputError: if two requests have one `custom_id`.
        """
        try:
            for row in convert_each(rows, _request):
                if row.data is None:
                    yield row
                else:
                    self._table.execute("INSERT INTO requests VALUES (:custom_id, :body)", row.data)
            # sorted once at the end: far quicker than an index that follows every row
            self._table.execute("CREATE UNIQUE INDEX by_id ON requests (custom_id)")
            self._table.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise InputError(
                f"the prompts of {file} could not be kept in a temporary file ({error}); free some space, or name "
                "another place with the environment variable TMPDIR."
            ) from error
        except sqlite3.IntegrityError as error:
            twice = "SELECT custom_id FROM requests GROUP BY custom_id HAVING COUNT(*) > 1 LIMIT 1"
            (key,) = self._table.execute(twice).fetchone()
            raise InputError(
                f"{file} has several requests with the custom_id {key}; give the input of one batch, in which every "
                "custom_id stands once."
            ) from error

    def find(self, custom_id: object) -> dict[str, Any]:
        """The body of a request.

        Raises:
            BadRowError: if there is none.
        """
        found = self._table.execute("SELECT body FROM requests WHERE custom_id = ?", (_key(custom_id),)).fetchone()
        if found is None:
            raise BadRowError(f"no request of the batch's input has this custom_id ({shown(custom_id)})")
        body: dict[str, Any] = json.loads(found[0])
        return body


def _request(row: Row) -> Iterator[Row]:
    if not isinstance(row.get("body"), dict):
        raise BadRowError(f"a request of the batch's input needs a `body`, got {shown(row.get('body'))}")
    yield {"custom_id": _key(row.get("custom_id")), "body": json.dumps(row["body"])}


def _key(custom_id: object) -> str:
    """As JSON, which is ASCII: SQLite takes no text that is not valid Unicode."""
    if not isinstance(custom_id, str):
        raise BadRowError(f"`custom_id` must be a text, got {shown(custom_id)}")
    return json.dumps(custom_id)

"""What a foreign format is: rows as they stand in the file, turned into rollout rows one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from lenvm.data.reading import RawRow
from lenvm.data.rollout import BadRowError

Row = dict[str, Any]
Convert = Callable[[Row], Iterable[Row | BadRowError]]


@dataclass(frozen=True, kw_only=True)
class AbstractFormat(ABC):
    """How another program writes completions.

    Implementations are frozen dataclasses: their fields are what the command line can set.
    """

    name: ClassVar[str]
    """How the format is called on the command line and in what the imported files say of themselves."""

    sign: ClassVar[str]
    """What its rows are recognised by, for people."""

    @classmethod
    @abstractmethod
    def recognises(cls, row: Mapping[str, Any]) -> bool:
        """Whether a row that could be read looks like this format."""

    def fitted(self, row: Mapping[str, Any]) -> Self:
        """This format, with everything decided that the first readable row of the file decides.

        Raises:
            InputError: if the row leaves it open.
        """
        del row
        return self

    @abstractmethod
    def described(self, row: Mapping[str, Any]) -> str:
        """What is taken from rows like this one, as half a sentence for people."""

    @abstractmethod
    def convert(self, rows: Iterable[RawRow]) -> Generator[RawRow, None, None]:
        """Rows of the file to rollout rows without token ids; memory does not grow with their number.

        Args:
            rows: rows as `read_source` gives them, each with its place.

        Returns:
            None, one or several rows for each, with the place it came from: fields of a rollout, or a problem.
            Image paths are left as they are.
        """


def convert_each(rows: Iterable[RawRow], convert: Convert) -> Generator[RawRow, None, None]:
    """Applies a function to the rows that could be read; what it raises or yields as an error is the row's problem."""
    for row in rows:
        if row.data is None:
            yield row
            continue
        try:
            for found in convert(row.data):
                if isinstance(found, BadRowError):
                    yield RawRow(place=row.place, problem=str(found))
                else:
                    yield RawRow(place=row.place, data=found)
        except BadRowError as error:
            yield RawRow(place=row.place, problem=str(error))


def shown(value: object) -> str:
    """A value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

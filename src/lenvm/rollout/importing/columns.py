"""Prompts and completions as columns of a table."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from lenvm.data.reading import RawRow
from lenvm.data.rollout import BadRowError
from lenvm.errors import InputError
from lenvm.rollout.importing.base import AbstractFormat, Row, convert_each
from lenvm.rollout.importing.turns import split_turns, without_nulls

USUAL: tuple[dict[str, str], ...] = (
    {"prompt": "prompt", "completion": "completion"},
    {"prompt": "prompt", "completion": "response"},
    {"prompt": "question", "completion": "answer"},
    {"prompt": "instruction", "completion": "output"},
    {"messages": "messages"},
)
_TEXTS = ("prompt_id", "finish_reason", "domain", "reference")
_OPTIONAL = (*_TEXTS, "images", "metadata")
_FIELDS = ("prompt", "completion", "messages", "input", *_OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class Columns(AbstractFormat):
    """Plain columns, in any file that `lenvm fit` could read.

    Without `columns`, the first row decides: prompt/completion, prompt/response, question/answer, instruction/output
    (with `input` in a line below the instruction, where there is one), or `messages` whose last turn is the
    assistant's. Columns called prompt_id, finish_reason, domain, reference, images or metadata are then taken as what
    they are called. Token ids are left out.

    Args:
        columns: field to column, such as `{prompt: question, completion: answer}`; `messages` may stand for both, and
            `input` is a text in a line below the prompt. Given, all other columns but `finish_reason` are left out.
    """

    name: ClassVar[str] = "columns"
    sign: ClassVar[str] = ", ".join("/".join(f"`{column}`" for column in pair.values()) for pair in USUAL)

    columns: dict[str, str] | None = None
    _by_name: tuple[str, ...] = ("finish_reason",)

    def __post_init__(self) -> None:
        given = self.columns
        if given is None:
            return
        if unknown := sorted(set(given) - set(_FIELDS)):
            raise InputError(f"`columns` names the field {unknown[0]!r}; expected {', '.join(_FIELDS)}.")
        if ("messages" in given) == ("prompt" in given) or ("prompt" in given) != ("completion" in given):
            raise InputError(
                f"`columns` must name `prompt` and `completion`, or `messages` alone, got {', '.join(given) or 'none'}."
            )

    @classmethod
    def recognises(cls, row: Mapping[str, Any]) -> bool:
        return _usual(row) is not None

    def fitted(self, row: Mapping[str, Any]) -> Self:
        if self.columns is not None:
            return self
        if (found := _usual(row)) is None:
            raise InputError(
                f"no usual pair of columns among {', '.join(map(repr, row)) or 'none'}: expected {self.sign}; name "
                "yours, such as `--columns '{prompt: question, completion: answer}'`."
            )
        return replace(self, columns=found, _by_name=_OPTIONAL)

    def described(self, row: Mapping[str, Any]) -> str:
        columns = self.columns or {}
        taken = dict(columns) | {name: name for name in self._by_name if name in row and name not in columns}
        left = [name for name in row if name not in taken.values()]
        told = ", ".join(f"{field} from `{column}`" for field, column in taken.items())
        return f"columns: {told}" + (f"; left out: {', '.join(f'`{name}`' for name in left)}" if left else "")

    def convert(self, rows: Iterable[RawRow]) -> Generator[RawRow, None, None]:
        return convert_each(rows, self._convert)

    def _convert(self, row: Row) -> Iterator[Row]:
        columns = self.columns or {}
        # in a table of the usual kind, `input` may be absent where there is none
        if missing := [c for field, c in columns.items() if c not in row and not (field == "input" and self._by_usage)]:
            present = ", ".join(sorted(row)) or "none"
            raise BadRowError(f"column {missing[0]!r} is missing; present: {present}")
        # rows of one JSON Lines file may differ in their columns: every row is asked for what it is called by name
        found = {name: row.get(name) for name in self._by_name} | {f: row.get(c) for f, c in columns.items()}
        for name in _TEXTS:
            found[name] = _scalar(found.get(name))
        if "messages" in columns:
            found["prompt"], found["completion"] = split_turns(found.pop("messages"), columns["messages"])
        found["prompt"] = without_nulls(found.get("prompt"))
        if (below := found.pop("input", None)) not in (None, ""):
            if not isinstance(found["prompt"], str) or not isinstance(below, str):
                raise BadRowError(f"`{columns['input']}` can only stand below a prompt if both are texts")
            found["prompt"] += "\n" + below
        yield found

    @property
    def _by_usage(self) -> bool:
        return self._by_name == _OPTIONAL


def _usual(row: Mapping[str, Any]) -> dict[str, str] | None:
    for pair in USUAL:
        if all(column in row for column in pair.values()):
            return {**pair, "input": "input"} if "instruction" in pair.values() else dict(pair)
    return None


def _scalar(value: Any) -> Any:
    """Numbers and dates as texts; an empty cell of a table is no value."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str | list | dict) else str(value)

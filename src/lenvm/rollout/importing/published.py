"""The authors' grouped conversations."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lenvm.data.reading import RawRow
from lenvm.data.rollout import BadRowError, FinishReason
from lenvm.rollout.importing.base import AbstractFormat, Row, convert_each, shown
from lenvm.rollout.importing.turns import split_turns

_ROLES = {"human": "user", "system": "system", "gpt": "assistant"}
_UNKNOWN = ("system", "tools", "videos", "audios")


@dataclass(frozen=True, kw_only=True)
class Published(AbstractFormat):
    """What the paper's data generation writes: `conversations`, `meta_info`, `source_fields` and perhaps `images`.

    It keeps no finish reason, so a completion whose `answer_token_length`, which counts EOS, reaches `max_tokens` is
    taken as cut; one that ended by itself exactly there is taken as cut, too. Rows of one `lenvm_idx` are not held
    together by it, but by their prompt, as all rollouts are.

    Args:
        max_tokens: the sampler's limit, for files whose `meta_info` does not have it.
    """

    name: ClassVar[str] = "published"
    sign: ClassVar[str] = "`conversations`"

    max_tokens: int | None = None

    @classmethod
    def recognises(cls, row: Mapping[str, Any]) -> bool:
        return "conversations" in row

    def described(self, row: Mapping[str, Any]) -> str:
        return "the published conversations, cut where `answer_token_length` reaches `max_tokens`"

    def convert(self, rows: Iterable[RawRow]) -> Generator[RawRow, None, None]:
        return convert_each(rows, self._convert)

    def _convert(self, row: Row) -> Iterator[Row]:
        if unknown := [name for name in _UNKNOWN if row.get(name)]:
            raise BadRowError(f"`{unknown[0]}` beside `conversations` is not understood")
        prompt, completion = split_turns(_messages(row.get("conversations")), "conversations")
        meta = row.get("meta_info")
        if not isinstance(meta, dict):
            raise BadRowError(f"`meta_info` must be an object, got {shown(meta)}")
        if not isinstance(fields := row.get("source_fields") or {}, dict):
            raise BadRowError(f"`source_fields` must be an object, got {shown(fields)}")
        yield {
            "prompt": prompt,
            "completion": completion,
            "finish_reason": self._finish_reason(meta),
            "domain": meta.get("dataset_name"),
            "images": row.get("images"),
            "metadata": {**meta, "source_fields": fields} if fields else meta,
        }

    def _finish_reason(self, meta: Mapping[str, Any]) -> FinishReason:
        length, limit = meta.get("answer_token_length"), meta.get("max_tokens")
        limit = self.max_tokens if limit is None else limit
        if type(length) is not int or length < 0:
            raise BadRowError(f"`meta_info.answer_token_length` must be a number of tokens, got {shown(length)}")
        if type(limit) is not int or limit < 1:
            raise BadRowError(
                f"`meta_info.max_tokens` must be a number of tokens, got {shown(limit)}; without it nothing tells "
                "which completions were cut (`--format Published --format.max_tokens N` says it for rows without)"
            )
        return "length" if length >= limit else "stop"


def _messages(turns: object) -> list[dict[str, str]]:
    if not isinstance(turns, list):
        raise BadRowError(f"`conversations` must be a list of turns, got {shown(turns)}")
    messages = []
    for turn in turns:
        if not (isinstance(turn, dict) and isinstance(turn.get("from"), str) and isinstance(turn.get("value"), str)):
            raise BadRowError(f"a turn of `conversations` needs the texts `from` and `value`, got {shown(turn)}")
        if turn["from"] not in _ROLES:
            raise BadRowError(f"a turn of `conversations` must be from {', '.join(_ROLES)}, got {shown(turn['from'])}")
        messages.append({"role": _ROLES[turn["from"]], "content": turn["value"]})
    return messages

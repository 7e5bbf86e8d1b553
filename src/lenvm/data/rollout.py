"""The rollout row of DESIGN section 6: one completion of one prompt, checked field by field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

FinishReason = Literal["stop", "length"]
Prompt = str | list[dict[str, Any]]


class BadRowError(ValueError):
    """A row that cannot be used; the message says why, and whoever knows the place adds it."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One completion of one prompt.

    Args:
        prompt: a text, or a list of chat messages `{"role", "content"}`.
        completion: the text that followed.
        prompt_ids: token ids of the prompt; when present, nothing is tokenised again.
        completion_ids: token ids of the completion, ending with EOS if it finished.
        prompt_id: groups completions of one prompt; default: a hash of the prompt.
        finish_reason: `stop` for a natural end, `length` for a completion cut by the sampler's limit.
        domain: such as `math`.
        reference: the gold answer.
        images: paths relative to the file.
        metadata: anything.
    """

    prompt: Prompt | None = None
    completion: str | None = None
    prompt_ids: list[int] | None = None
    completion_ids: list[int] | None = None
    prompt_id: str
    finish_reason: FinishReason = "stop"
    domain: str | None = None
    reference: str | None = None
    images: list[str] | None = None
    metadata: dict[str, Any] | None = None

    @property
    def has_ids(self) -> bool:
        """Whether the row brings its own token ids."""
        return self.completion_ids is not None


FIELDS = tuple(f.name for f in fields(Rollout))


def prompt_hash(prompt: Prompt | list[int]) -> str:
    """The default `prompt_id`: equal prompts, written as text, messages or ids, have equal hashes."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def parse_rollout(row: Mapping[str, Any]) -> Rollout:
    """Checks a row as it was read from a file; fields that are null count as absent.

    Raises:
        BadRowError: naming the first thing that is wrong.
    """
    if unknown := sorted(set(row) - set(FIELDS)):
        raise BadRowError(f"unknown field {unknown[0]!r}; a rollout row may have {', '.join(FIELDS)}")
    given = {name: value for name, value in row.items() if value is not None}
    prompt, prompt_ids = given.get("prompt"), given.get("prompt_ids")
    if prompt is not None:
        _check_prompt(prompt)
    if (prompt_ids is None) != (given.get("completion_ids") is None):
        raise BadRowError("token ids and text are mixed: give both `prompt_ids` and `completion_ids`, or neither")
    if prompt_ids is None:
        _check_text(given)
    else:
        _check_ids("prompt_ids", prompt_ids)
        _check_ids("completion_ids", given["completion_ids"])
    if (reason := given.get("finish_reason", "stop")) not in ("stop", "length"):
        raise BadRowError(f"`finish_reason` must be `stop` or `length`, got {_shown(reason)}")
    for name in ("prompt_id", "domain", "reference"):
        if name in given:
            given[name] = str(given[name])
    given.setdefault("prompt_id", prompt_hash(prompt if prompt is not None else prompt_ids or ""))
    return Rollout(**given)


def parse_prompt(row: Mapping[str, Any]) -> Rollout:
    """Checks a row that only asks: a prompt without completion; completion fields, if there are any, are ignored.

    Raises:
        BadRowError: if there is no usable `prompt`.
    """
    kept = {name: row.get(name) for name in ("prompt", "prompt_id", "domain", "reference", "images")}
    given = {name: value for name, value in kept.items() if value is not None}
    if "prompt" not in given:
        raise BadRowError(f"no `prompt`; present: {', '.join(sorted(row)) or 'nothing'}")
    _check_prompt(given["prompt"])
    given["prompt_id"] = str(given.get("prompt_id", prompt_hash(given["prompt"])))
    if not given["prompt_id"].isprintable() and any("\ud800" <= letter <= "\udfff" for letter in given["prompt_id"]):
        raise BadRowError("`prompt_id` is not valid Unicode")
    return Rollout(**given)


def _check_prompt(prompt: object) -> None:
    if isinstance(prompt, str):
        if not prompt:
            raise BadRowError("empty `prompt`")
        return
    if not isinstance(prompt, list) or not prompt:
        raise BadRowError(f"`prompt` must be a text or a list of messages, got {_shown(prompt)}")
    for message in prompt:
        if not (isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message):
            raise BadRowError(f"a message of `prompt` needs `role` and `content`, got {_shown(message)}")


def _check_text(given: dict[str, Any]) -> None:
    if "prompt" not in given:
        raise BadRowError("no `prompt` (a text or a list of messages) and no `prompt_ids`")
    completion = given.get("completion")
    if not isinstance(completion, str):
        raise BadRowError(f"no `completion`: expected a text, got {_shown(completion)}")
    if not completion and given.get("finish_reason") == "length":
        raise BadRowError("empty `completion` that was cut by a limit: it says nothing about length")


def _check_ids(name: str, ids: object) -> None:
    if not isinstance(ids, list) or not ids:
        raise BadRowError(f"`{name}` must be a list with at least one token id, got {_shown(ids)}")
    if not all(type(i) is int and i >= 0 for i in ids):
        raise BadRowError(f"`{name}` must hold non-negative integers, got {_shown(ids)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

"""Chat messages as other programs write them."""

from __future__ import annotations

from typing import Any

from lenvm.data.rollout import BadRowError
from lenvm.rollout.importing.base import shown

Messages = list[dict[str, Any]]


def without_nulls(messages: object) -> object:
    """Messages without the fields that are null, as Parquet fills them in: they would change the hash of a prompt."""
    if not isinstance(messages, list):
        return messages
    return [
        {name: value for name, value in m.items() if value is not None or name == "content"}
        if isinstance(m, dict)
        else m
        for m in messages
    ]


def split_turns(messages: object, column: str) -> tuple[Messages, str]:
    """The messages before the last one, which is the assistant's, and its text.

    Args:
        messages: a list of `{"role", "content"}`.
        column: where it was found, for errors.

    Raises:
        BadRowError: if it is something else, or holds no prompt or no completion.
    """
    messages = without_nulls(messages)
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise BadRowError(f"`{column}` must be a list of messages, got {shown(messages)}")
    if len(messages) < 2:
        raise BadRowError(f"`{column}` needs a prompt and an answer: {len(messages)} messages are too few")
    *prompt, last = messages
    if last.get("role") != "assistant":
        raise BadRowError(f"the last turn of `{column}` must be the assistant's, got {shown(last.get('role'))}")
    if not isinstance(last.get("content"), str):
        raise BadRowError(f"the last turn of `{column}` has no text, got {shown(last.get('content'))}")
    if last.get("tool_calls"):
        raise BadRowError(f"the last turn of `{column}` calls tools: its text is not all that was written")
    return prompt, last["content"]

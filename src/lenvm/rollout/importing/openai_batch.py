"""The output of OpenAI's batch interface, which vLLM and others write as well."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lenvm.data.reading import RawRow
from lenvm.data.rollout import BadRowError
from lenvm.rollout.importing.base import AbstractFormat, Row, convert_each, shown
from lenvm.rollout.importing.batch_requests import BatchRequests
from lenvm.rollout.importing.source import read_source
from lenvm.rollout.importing.turns import without_nulls


@dataclass(frozen=True, kw_only=True)
class OpenAIBatch(AbstractFormat):
    """Chat and text completions of a batch; every choice is a completion.

    The output has no prompts: they come from the batch's input, joined by `custom_id`. The input lies in a temporary
    SQLite file meanwhile (`TMPDIR` says where), which takes about as much disk as the input, unpacked; memory does not
    grow. Requests that failed, and choices that neither ended nor were cut by the limit, are bad rows; so are answers
    with reasoning outside their text, whose text does not have the length that was written.

    Args:
        batch_input: the file that was uploaded, plain or gzip.
    """

    name: ClassVar[str] = "openai_batch"
    sign: ClassVar[str] = "`custom_id` and `response`"

    batch_input: Path

    @classmethod
    def recognises(cls, row: Mapping[str, Any]) -> bool:
        return "custom_id" in row

    def described(self, row: Mapping[str, Any]) -> str:
        return f"the output of an OpenAI batch, with the prompts of {self.batch_input}"

    def convert(self, rows: Iterable[RawRow]) -> Generator[RawRow, None, None]:
        with BatchRequests() as requests:
            yield from requests.load(read_source(self.batch_input), self.batch_input)
            yield from convert_each(rows, lambda row: _completions(row, requests))


def _completions(row: Row, requests: BatchRequests) -> Iterator[Row | BadRowError]:
    body = _body(row)
    request = requests.find(row.get("custom_id"))
    if request.get("echo"):
        raise BadRowError("the request has `echo`, so its completions begin with the prompt")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(c, dict) for c in choices):
        raise BadRowError(f"`choices` must be a list of completions, got {shown(choices)}")
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    _check_reasoning(usage.get("completion_tokens_details"))
    # the interface counts the tokens of all choices together
    tokens = "completion_tokens" if len(choices) == 1 else "completion_tokens_of_all_choices"
    shared = {
        "custom_id": row["custom_id"],
        "model": body.get("model"),
        "request": {name: value for name, value in request.items() if name not in ("messages", "prompt")},
        tokens: usage.get("completion_tokens"),
    }
    for position, choice in enumerate(choices):
        index = choice.get("index", position)
        try:
            completion = _text(choice)
            yield {
                "prompt": _prompt(request, index),
                "completion": completion,
                "finish_reason": choice["finish_reason"],
                "metadata": {**shared, "choice": index},
            }
        except BadRowError as error:
            yield BadRowError(f"{error} (choice {index})")


def _body(row: Row) -> dict[str, Any]:
    """The answer of a request that succeeded."""
    response, error = row.get("response"), row.get("error")
    if response is None and error is None:
        raise BadRowError(
            "no `response` and no `error`; the file must be a batch's output (its input goes to `--batch_input`)"
        )
    if response is not None and not isinstance(response, dict):
        raise BadRowError(f"`response` must be an object, got {shown(response)}")
    body = (response or {}).get("body")
    status = (response or {}).get("status_code")
    if error is None and isinstance(body, dict):
        error = body.get("error")
    if error is not None or status != 200:
        told = error if isinstance(error, dict) else {}
        reason = next((str(told[name]) for name in ("code", "type") if told.get(name)), f"status {status}")
        raise BadRowError(f"the request failed with `{reason}` ({shown(told.get('message'))})")
    if not isinstance(body, dict):
        raise BadRowError(f"`response.body` must be an object, got {shown(body)}")
    return body


def _text(choice: Row) -> str:
    message = choice.get("message", {})
    if not isinstance(message, dict):
        raise BadRowError(f"`message` must be an object, got {shown(message)}")
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise BadRowError(f"finish_reason `{reason}`, where only `stop` and `length` tell a length")
    if message.get("refusal"):
        raise BadRowError("the model refused")
    if message.get("tool_calls"):
        raise BadRowError("the message calls tools, so its text is not all that was written")
    if message.get("reasoning_content") or message.get("reasoning"):
        _check_reasoning({"reasoning_tokens": 1})
    text = message.get("content") if "message" in choice else choice.get("text")
    if not isinstance(text, str):
        raise BadRowError(f"no text in the choice, got {shown(text)}")
    return text


def _check_reasoning(details: object) -> None:
    if isinstance(details, dict) and details.get("reasoning_tokens"):
        raise BadRowError("reasoning outside the text, so the text does not have the length that was written")


def _prompt(request: Mapping[str, Any], index: object) -> object:
    """The prompt of one choice: a request for text completions may ask for several prompts, one after the other."""
    if "messages" in request:
        return without_nulls(request["messages"])  # checked with the whole row
    prompt = request.get("prompt")
    if isinstance(prompt, list) and prompt and all(isinstance(p, str) for p in prompt):
        number = request.get("n") or 1
        if type(index) is not int or type(number) is not int or not 0 <= index // number < len(prompt):
            raise BadRowError(f"no prompt for the choice among the {len(prompt)} of its request")
        prompt = prompt[index // number]
    if not isinstance(prompt, str):
        raise BadRowError(f"its request needs `messages` or a text `prompt`, got {shown(prompt)}")
    return prompt

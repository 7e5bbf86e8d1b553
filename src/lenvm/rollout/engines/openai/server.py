"""One server: requests to it, and what its answers mean."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from lenvm.errors import InputError
from lenvm.rollout.engines.openai.answers import SHOWN, Choice, read_choices, words

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_PASSING = (408, 409, 425, 429)
_MALFORMED = (400, 422)


class UnavailableError(Exception):
    """The server is at fault, perhaps for a while.

    Args:
        said: what happened, as "answered 503: ...".
        retry_after: seconds after which the server wants to be asked again, if it said so.
    """

    def __init__(self, said: str, retry_after: float | None = None) -> None:
        super().__init__(said)
        self.said, self.retry_after = said, retry_after


class RefusedError(Exception):
    """The server does not take this request, while it may take others."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


class Server:
    """A server, how much it does for us, and how it fares.

    Args:
        url: its base URL.
        client: the client that talks to it.

    Attributes:
        in_flight: requests that it has not answered.
        failures: times in a row that it was asked and did not answer as it should.
        rests_until: not to be asked before; it may be asked at once when another request has been answered.
        closed_until: not to be asked before, as it said itself.
    """

    def __init__(self, url: str, client: AsyncOpenAI) -> None:
        self.url, self.client = url, client
        self.in_flight = self.failures = 0
        self.rests_until = self.closed_until = 0.0
        self._takes_optional = self._refuses_optional = False

    @property
    def shut_until(self) -> float:
        return max(self.rests_until, self.closed_until)

    async def complete(self, path: str, body: Mapping[str, Any], optional: Mapping[str, Any]) -> list[Choice]:
        """Completions for this body.

        Fields of `optional` are left out from then on, if the server does not know them.

        Raises:
            UnavailableError: if it is worth trying again.
            RefusedError: if this prompt cannot be completed.
            InputError: if no prompt can.
        """
        fields = {} if self._refuses_optional else optional
        try:
            choices = await self._choices(path, {**body, **fields})
        except RefusedError as refused:
            named = any(name in refused.said for name in fields)
            if not fields or refused.status not in _MALFORMED or (self._takes_optional and not named):
                raise
            # a server that names none of the fields may mean them nevertheless, until it has once taken them
            self._refuses_optional |= named
            choices = await self._choices(path, body)
            self._refuses_optional = True
        else:
            self._takes_optional |= bool(fields)
        return choices

    async def models(self, timeout: float) -> list[dict[str, Any]]:
        """What it serves; nothing, if it does not tell.

        Raises:
            UnavailableError: if it does not answer.
            InputError: if it wants another key.
        """
        try:
            raw = await self._send("get", "/models", timeout=timeout)
        except RefusedError:
            return []
        try:
            return [model for model in json.loads(raw)["data"] if isinstance(model["id"], str)]
        except (ValueError, LookupError, TypeError) as error:
            raise UnavailableError("answered /models with something that is no list of models") from error

    async def close(self) -> None:
        await self.client.close()

    async def _choices(self, path: str, body: Mapping[str, Any]) -> list[Choice]:
        raw = await self._send("post", path, body=body)
        try:
            choices = read_choices(raw)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            shown = raw[:SHOWN].decode("utf-8", "replace")
            raise UnavailableError(f"answered with something that holds no completion: {shown!r}") from error
        if len(choices) != (wanted := body.get("n", 1)):
            raise InputError(
                f"the server at {self.url} was asked for {wanted} completions of a prompt and gave {len(choices)}; "
                "set `samples_per_request` to 1."
            )
        return choices

    async def _send(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> bytes:
        """The body of a good answer.

        Read as bytes: what the client's own types cost per answer is more than all the rest.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            if method == "get":
                return await self.client.get(path, cast_to=bytes, options={"timeout": timeout})
            return await self.client.post(path, cast_to=bytes, body=body)
        except APITimeoutError as error:
            raise UnavailableError("gave no answer in time") from error
        except APIConnectionError as error:
            raise UnavailableError(f"cannot be reached ({_cause(error)})") from error
        except APIStatusError as error:
            status, said = error.status_code, words(error.response.content)
            if status in _PASSING or status >= 500:
                raise UnavailableError(f"answered {status}: {said}", _retry_after(error.response.headers)) from error
            if status in (401, 403):
                raise InputError(
                    f"the server at {self.url} refuses the API key ({status}: {said}); set OPENAI_API_KEY or `api_key`."
                ) from error
            raise RefusedError(status, said) from error
        except UnicodeEncodeError as error:
            raise RefusedError(0, f"the text is not valid Unicode at character {error.start}") from error


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from a number or a date."""
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None

"""Many servers as one: the least busy is asked, who fails rests for a while, and a failed request goes elsewhere."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

from lenvm.errors import InputError
from lenvm.rollout.engines.openai.answers import Choice
from lenvm.rollout.engines.openai.server import RefusedError, Server, UnavailableError

_LONGEST_PAUSE = 60.0
_LISTING_SECONDS = 10.0


class Servers:
    """Servers of one model.

    Args:
        servers: at least one.
        concurrency: most requests in flight per server.
        retries: how often a request is sent again.
        backoff: seconds of the first pause; each further one is twice as long, up to a minute.
        patience: longest pause that a server can ask for, in seconds.
    """

    def __init__(
        self, servers: Sequence[Server], *, concurrency: int, retries: int, backoff: float, patience: float
    ) -> None:
        self.servers = servers
        self._concurrency, self._retries, self._backoff, self._patience = concurrency, retries, backoff, patience
        self._changed = asyncio.Event()

    async def start(self, seconds: float) -> list[dict[str, Any]]:
        """Waits until one of the servers answers, and returns the models that it serves.

        Raises:
            InputError: if none does in time, or one wants another key.
        """
        clock = asyncio.get_running_loop()
        deadline = clock.time() + seconds
        while True:
            found = await asyncio.gather(
                *(server.models(_LISTING_SECONDS) for server in self.servers), return_exceptions=True
            )
            listings = []
            for server, result in zip(self.servers, found, strict=True):
                if isinstance(result, UnavailableError):
                    self._set_aside(server, server.failures, None)
                elif isinstance(result, BaseException):
                    raise result
                else:
                    listings.append(result)
            if listings:
                return max(listings, key=len)
            for server in self.servers:
                server.failures, server.rests_until = 0, 0.0
            if clock.time() >= deadline:
                raise InputError(
                    f"no server answers: {self.servers[0].url} {found[0]}; start it, correct `urls`, or give it more "
                    f"time with `startup_seconds` (now {seconds:g})."
                )
            await asyncio.sleep(min(1.0, max(0.05, deadline - clock.time())))

    async def complete(self, path: str, body: Mapping[str, Any], optional: Mapping[str, Any]) -> list[Choice]:
        """Completions from any of the servers.

        Raises:
            RefusedError: if this prompt cannot be completed; `said` then names the server.
            InputError: if no prompt can, or all tries have failed.
        """
        failed: Server | None = None
        for tries in range(1, self._retries + 2):
            server = await self._acquire(failed)
            failures = server.failures
            try:
                choices = await server.complete(path, body, optional)
            except UnavailableError as error:
                failed, problem = server, error
                self._set_aside(server, failures, error.retry_after)
                if all(s.failures > self._retries for s in self.servers):
                    break
            except RefusedError as error:
                self._fares_well(server)
                if error.status == 404:
                    raise await self._not_found(server, str(body.get("model")), error.said) from error
                told = f"the server at {server.url} answered {error.status}: {error.said}"
                raise RefusedError(error.status, told if error.status else error.said) from error
            else:
                self._fares_well(server)
                return choices
            finally:
                server.in_flight -= 1
                self._changed.set()
            now = asyncio.get_running_loop().time()
            if not any(self._is_open(other, now) for other in self.servers if other is not server):
                await asyncio.sleep(self._pause(tries, problem.retry_after))
        raise InputError(
            f"the server at {server.url} {problem.said} (after {max(tries, server.failures)} tries); what is finished "
            "is kept: see to the server, and give the same command again to go on."
        )

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self.servers))

    async def _acquire(self, failed: Server | None) -> Server:
        """The open server with the fewest requests in flight; the one that failed only if there is no other."""
        while True:
            # read once: a rest that ends between two readings would be waited for without end
            now = asyncio.get_running_loop().time()
            if ready := [server for server in self.servers if self._is_open(server, now)]:
                break
            ends = [end - now for server in self.servers if (end := server.shut_until) > now]
            self._changed.clear()
            try:
                async with asyncio.timeout(min(ends, default=None)):
                    await self._changed.wait()
            except TimeoutError:
                pass
        server = min(ready, key=lambda server: (server is failed, server.in_flight))
        server.in_flight += 1
        return server

    def _is_open(self, server: Server, now: float) -> bool:
        # a server that failed is tried with one request, not with all that wait for it
        room = 1 if server.failures else self._concurrency
        return server.in_flight < room and server.shut_until <= now

    def _set_aside(self, server: Server, failures: int, retry_after: float | None) -> None:
        """Notes a failure, unless it is one of many requests that were under way when the server first failed."""
        now = asyncio.get_running_loop().time()
        if retry_after is not None:
            server.closed_until = max(server.closed_until, now + min(retry_after, self._patience))
        if server.failures == failures:
            server.failures += 1
            server.rests_until = now + self._pause(server.failures, retry_after)

    def _fares_well(self, server: Server) -> None:
        server.failures, server.rests_until = 0, 0.0

    def _pause(self, tries: int, retry_after: float | None) -> float:
        if retry_after is not None:
            return min(retry_after, self._patience)
        longest = min(self._backoff * 2.0 ** min(tries - 1, 30), _LONGEST_PAUSE)
        return longest * random.uniform(0.5, 1.0)

    async def _not_found(self, server: Server, model: str, said: str) -> InputError:
        try:
            served = [str(known["id"]) for known in await server.models(_LISTING_SECONDS)]
        except UnavailableError:
            served = []
        hint = "correct `urls` or `model`"
        if served:
            hint = "correct `urls` or `endpoint`" if model in served else f"it serves {', '.join(served)}: set `model`"
        told = said.rstrip(".")
        return InputError(f"the server at {server.url} answered 404 for model {model}: {told}; {hint}.")

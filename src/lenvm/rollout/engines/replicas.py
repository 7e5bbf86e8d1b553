"""Several engines beside each other, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from lenvm.errors import InputError
from lenvm.rollout.engines.base import Failed, Outcome, SamplingRequest

_PATIENCE = 10.0
_GOES_ON = "what was finished is kept, and the same command goes on from there"


class Replica(Protocol):
    """An engine that is advanced step by step."""

    capacity: int

    @property
    def load(self) -> int:
        """Completions under way."""

    def add(self, request: SamplingRequest) -> list[Failed]:
        """Takes a request; tells what is wrong with it."""

    def step(self) -> list[Outcome]:
        """Goes on a bit; the completions that were finished by it."""


class _Told(NamedTuple):
    """What a process says: its capacity once; outcomes, and how many completions fewer it has to do; or an error."""

    capacity: int | None = None
    outcomes: Sequence[Outcome] = ()
    freed: int = 0
    error: str | None = None


class Replicas:
    """Processes that share the requests; who has least to do gets the next one.

    Each is at the other end of a connection that nobody else holds: whoever dies, the other side reads its end at once,
    even in the middle of a message.

    Args:
        factory: makes the engine, in the process.
        arguments: what it is called with.
        environments: one process for each, with these environment variables.
    """

    def __init__(
        self, factory: type[Replica] | Any, arguments: tuple[Any, ...], environments: list[dict[str, str]]
    ) -> None:
        # a fork would copy threads and GPU handles that do not survive it
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in environments]
        self._links: list[Connection[Any, Any]] = [ours for ours, _ in pipes]
        self._theirs: list[Connection[Any, Any]] = [theirs for _, theirs in pipes]
        self._processes: list[SpawnProcess] = [
            context.Process(target=_serve, args=(factory, arguments, environment, theirs))
            for environment, theirs in zip(environments, self._theirs, strict=True)
        ]

    def __enter__(self) -> Self:
        try:
            for process, theirs in zip(self._processes, self._theirs, strict=True):
                process.start()
                theirs.close()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def sample(self, requests: Iterator[SamplingRequest]) -> Iterator[Outcome]:
        """Completions of all requests as they are finished.

        Raises:
            InputError: if an engine cannot start, or ends.
        """
        room: dict[int, int] = {}
        capacity: dict[int, int] = {}
        more = True
        while more or room != capacity:
            while more and room and max(room.values()) > 0:
                request = next(requests, None)
                if request is None:
                    more = False
                    break
                idlest = max(room, key=lambda i: room[i])
                room[idlest] -= len(request.samples)
                self._ask(idlest, request)
            if not more and room == capacity:
                return
            for replica, told in self._heard():
                if told.error is not None:
                    raise InputError(told.error)
                if told.capacity is not None:
                    room[replica] = capacity[replica] = told.capacity
                else:
                    room[replica] += told.freed
                yield from told.outcomes

    def _ask(self, replica: int, request: SamplingRequest) -> None:
        try:
            self._links[replica].send(request)
        except OSError:
            raise self._ended(replica) from None

    def _heard(self) -> Iterator[tuple[int, _Told]]:
        """What the processes have to say, from one of them at least."""
        for link in wait(self._links):
            replica = self._links.index(link)  # type: ignore[arg-type]
            try:
                told: _Told = self._links[replica].recv()
            except (EOFError, OSError):
                raise self._ended(replica) from None
            yield replica, told

    def _ended(self, replica: int) -> InputError:
        self._processes[replica].join(_PATIENCE)
        code = self._processes[replica].exitcode
        return InputError(f"an engine process ended with exit code {code}; {_GOES_ON}.")

    def _end(self) -> None:
        started = [process for process in self._processes if process.pid is not None]
        for process in started:
            process.terminate()
        for link in (*self._links, *self._theirs):
            link.close()
        for process in started:
            process.join(_PATIENCE)
            process.kill()
            process.join()


def _serve(factory: Any, arguments: tuple[Any, ...], environment: dict[str, str], link: Connection[Any, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks; it ends this one
    os.environ.update(environment)
    inbox: queue.SimpleQueue[SamplingRequest] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(link, inbox), daemon=True).start()
    try:
        engine: Replica = factory(*arguments)
        link.send(_Told(capacity=engine.capacity))
        while True:
            outcomes, load = list[Outcome](), engine.load
            for request in _arrived(inbox, is_idle=load == 0):
                load += len(request.samples)
                outcomes += engine.add(request)
            outcomes += engine.step()
            if outcomes or load != engine.load:
                link.send(_Told(outcomes=outcomes, freed=load - engine.load))
    except InputError as error:
        link.send(_Told(error=str(error)))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        link.send(_Told(error=f"an engine process failed ({reason}); {_GOES_ON}."))
        raise


def _receive(link: Connection[Any, Any], inbox: queue.SimpleQueue[SamplingRequest]) -> None:
    """Takes requests out of the connection at once, so that who asks never waits; ends the process with it."""
    while True:
        try:
            inbox.put(link.recv())
        except (EOFError, OSError):
            os._exit(1)


def _arrived(inbox: queue.SimpleQueue[SamplingRequest], *, is_idle: bool) -> Iterator[SamplingRequest]:
    """The requests that are there; one at least if there is nothing else to do."""
    while True:
        try:
            yield inbox.get(block=is_idle)
        except queue.Empty:
            return
        is_idle = False

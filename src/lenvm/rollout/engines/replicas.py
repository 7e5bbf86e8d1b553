"""Several engines beside each other, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from lenvm.errors import InputError
from lenvm.rollout.engines.base import Failed, Outcome, SamplingRequest

_PATIENCE = 1.0


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

    def close(self) -> None:
        """Shuts it down."""


class _Told(NamedTuple):
    """What a process says: which one it is, and an outcome, its capacity, a finished request's load, or an error."""

    replica: int
    outcome: Outcome | None = None
    capacity: int | None = None
    load: int | None = None
    error: str | None = None


class Replicas:
    """Processes that share the requests; who has least to do gets the next one.

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
        self._told: Queue[_Told] = context.Queue()
        self._inboxes: list[Queue[SamplingRequest | None]] = [context.Queue() for _ in environments]
        self._processes: list[SpawnProcess] = [
            context.Process(target=_serve, args=(i, factory, arguments, environment, self._inboxes[i], self._told))
            for i, environment in enumerate(environments)
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for inbox in self._inboxes:
            inbox.cancel_join_thread()
            inbox.close()
        self._told.close()

    def sample(self, requests: Iterator[SamplingRequest]) -> Iterator[Outcome]:
        """Completions of all requests as they are finished.

        Raises:
            InputError: if an engine cannot start, or ends.
        """
        room: dict[int, int] = {}
        more = True
        capacity: dict[int, int] = {}
        while more or room != capacity or len(capacity) < len(self._processes):
            while more and room and max(room.values()) > 0:
                request = next(requests, None)
                if request is None:
                    more = False
                    break
                idlest = max(room, key=lambda i: room[i])
                room[idlest] -= len(request.samples)
                self._inboxes[idlest].put(request)
            if not more and room == capacity and room:
                return
            told = self._next()
            if told.error is not None:
                raise InputError(told.error)
            if told.capacity is not None:
                room[told.replica] = capacity[told.replica] = told.capacity
            if told.load is not None:
                room[told.replica] += told.load
            if told.outcome is not None:
                yield told.outcome

    def _next(self) -> _Told:
        while True:
            try:
                return self._told.get(timeout=_PATIENCE)
            except queue.Empty:
                for process in self._processes:
                    if not process.is_alive():
                        raise InputError(
                            f"an engine process ended with exit code {process.exitcode}; what was finished is kept, "
                            "and the same command goes on from there."
                        ) from None


def _serve(
    replica: int,
    factory: Any,
    arguments: tuple[Any, ...],
    environment: dict[str, str],
    inbox: Queue[SamplingRequest | None],
    told: Queue[_Told],
) -> None:
    os.environ.update(environment)
    try:
        engine: Replica = factory(*arguments)
    except InputError as error:
        told.put(_Told(replica, error=str(error)))
        return
    told.put(_Told(replica, capacity=engine.capacity))
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        try:
            request = inbox.get(timeout=None if engine.load == 0 and parent is None else _PATIENCE * (engine.load == 0))
        except queue.Empty:
            request = None
        before = engine.load
        if request is not None:
            for failed in engine.add(request):
                told.put(_Told(replica, outcome=failed))
            told.put(_Told(replica, load=len(request.samples) - (engine.load - before)))
            before = engine.load
            if not inbox.empty():
                continue
        for outcome in engine.step():
            told.put(_Told(replica, outcome=outcome))
        if engine.load < before:
            told.put(_Told(replica, load=before - engine.load))
    engine.close()

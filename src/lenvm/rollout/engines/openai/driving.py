"""The event loop behind a plain iterator: it runs in the consumer's thread, while the consumer waits for a row."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from transformers import PreTrainedTokenizerBase

from lenvm.data.rollout import BadRowError
from lenvm.errors import InputError
from lenvm.rollout.engines.base import Failed, Outcome
from lenvm.rollout.engines.openai.answers import RowReader
from lenvm.rollout.engines.openai.balancing import Servers
from lenvm.rollout.engines.openai.jobs import Bodies, Job
from lenvm.rollout.engines.openai.server import RefusedError

_ALL_REFUSED = 20


class Work:
    """What is done for each job.

    Args:
        servers: who completes.
        bodies: how to ask.
        tokenizer: the generator's, if known.
    """

    def __init__(self, servers: Servers, bodies: Bodies, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._servers, self._bodies, self._reader = servers, bodies, RowReader(tokenizer)
        self._optional = bodies.optional
        self._refused: int | None = 0

    async def outcomes(self, job: Job) -> list[Outcome]:
        """Rollouts of a job; `Failed` where the fault is the prompt's, but once per prompt.

        Raises:
            InputError: if the servers complete nothing, or have refused every one of the first twenty prompts.
        """
        try:
            path, body = self._bodies.of(job)
            choices = await self._servers.complete(path, body, self._optional)
        except (BadRowError, RefusedError) as error:
            if job.asked.failed:
                return []
            job.asked.failed = True
            if isinstance(error, RefusedError) and self._refused is not None:
                self._refused += 1
                if self._refused == _ALL_REFUSED:
                    raise InputError(
                        f"each of the first {_ALL_REFUSED} prompts was refused, the last one because {error}; "
                        "correct the sampling settings, `endpoint` or `extra_body`."
                    ) from error
            return [Failed(job.asked.prompt_id, f"prompt {job.asked.prompt_id}: {error}")]
        self._refused = None
        return self._reader.outcomes(job, choices)


def drive(loop: asyncio.AbstractEventLoop, work: Work, jobs: Iterator[Job], most: int) -> Iterator[Outcome]:
    """Outcomes as they come, with at most so many jobs under way; a job is pulled when there is room for it.

    Raises:
        InputError: that of the first job that ends all, after the outcomes that were there by then.
    """
    finished: asyncio.Queue[asyncio.Task[list[Outcome]]] = asyncio.Queue()
    running: set[asyncio.Task[list[Outcome]]] = set()
    try:
        while True:
            for job in islice(jobs, most - len(running)):
                task = loop.create_task(work.outcomes(job))
                running.add(task)
                task.add_done_callback(finished.put_nowait)
            if not running:
                return
            # a queue, for `asyncio.wait` would visit every task under way at every answer
            done = [loop.run_until_complete(finished.get())]
            while not finished.empty():
                done.append(finished.get_nowait())
            running.difference_update(done)
            errors = [error for task in done if (error := task.exception()) is not None]
            for task in done:
                if task.exception() is None:
                    yield from task.result()
            if errors:
                raise errors[0]
    finally:
        loop.run_until_complete(_cancel(running))


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of our own; whatever runs in it is cancelled at the end, also after Ctrl-C."""
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        try:
            loop.run_until_complete(_cancel(asyncio.all_tasks(loop)))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


@contextmanager
def connected(loop: asyncio.AbstractEventLoop, servers: Servers) -> Iterator[Servers]:
    """The servers, whose connections are closed at the end."""
    try:
        yield servers
    finally:
        loop.run_until_complete(servers.close())


async def _cancel(tasks: Iterable[asyncio.Task[list[Outcome]]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""An engine for tests that needs no model: each request's completions are finished by one step, some misbehave."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from lenvm.errors import InputError
from lenvm.rollout.engines.base import Failed, Outcome, SamplingRequest


class EchoingReplica:
    """Completes a request per step; a prompt that is a command is obeyed.

    Args:
        folder: each process leaves a file with its process id as name, whose content is its name.
        size: characters of a completion.
    """

    capacity = 8

    def __init__(self, folder: Path, size: int) -> None:
        self._name, self._size = os.environ["REPLICA"], size
        self._open: list[SamplingRequest] = []
        if self._name == "refuses":
            raise InputError("this engine does not start")
        (folder / str(os.getpid())).write_text(self._name)

    @property
    def load(self) -> int:
        return sum(len(request.samples) for request in self._open)

    def add(self, request: SamplingRequest) -> list[Failed]:
        if request.rollout.prompt == "bad":
            return [Failed(request.rollout.prompt_id, "is bad")]
        if request.rollout.prompt == "raise":
            raise ZeroDivisionError("of no use")
        self._open.append(request)
        return []

    def step(self) -> list[Outcome]:
        if not self._open:
            return []
        request = self._open.pop(0)
        if request.rollout.prompt == "die" or self._name == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.002)
        return [request.completed(sample, self._name * self._size, [3], "stop") for sample in request.samples]

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted_server import ScriptedServer, fast_engine
from transformers import PreTrainedTokenizerBase

from lenvm.decoding.settings import SamplingSettings
from lenvm.rollout.engines.base import Outcome, Policy, SamplingRequest


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    """Starts scripted servers, and ends them after the test."""
    servers: list[ScriptedServer] = []

    def start(*args: Any, **options: Any) -> ScriptedServer:
        servers.append(ScriptedServer(*args, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def policy(tokenizer: PreTrainedTokenizerBase) -> Callable[..., Policy]:
    """The playground's tokenizer with these sampling settings."""

    def make(**sampling: Any) -> Policy:
        settings = SamplingSettings(**sampling)
        return Policy(generator="policy", revision=None, tokenizer=tokenizer, sampling=settings)

    return make


@pytest.fixture
def complete(policy: Callable[..., Policy]) -> Callable[..., list[Outcome]]:
    """All outcomes of these requests from these servers; a fast engine, unless options say otherwise."""

    def run(
        servers: list[ScriptedServer],
        requests: list[SamplingRequest],
        sampling: dict[str, Any] | None = None,
        **options: Any,
    ) -> list[Outcome]:
        engine = fast_engine(servers, **options)
        return list(engine.sample(policy(**(sampling or {})), iter(requests)))

    return run

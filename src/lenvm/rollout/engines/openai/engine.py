"""Sampling from servers that speak OpenAI's protocol."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import urlopen

from lenvm.errors import InputError
from lenvm.rollout.engines.base import AbstractEngine, Outcome, Policy, SamplingRequest
from lenvm.rollout.engines.openai.balancing import Servers
from lenvm.rollout.engines.openai.driving import Work, connected, drive, event_loop
from lenvm.rollout.engines.openai.jobs import Bodies, jobs_of
from lenvm.rollout.engines.openai.server import Server

_CONNECT_SECONDS = 20.0
_OURS = frozenset(("echo", "messages", "model", "n", "prompt", "stream"))


@dataclass(frozen=True, kw_only=True)
class OpenAIEngine(AbstractEngine):
    """Servers that speak OpenAI's protocol: one or many `vllm serve` replicas, or a provider's.

    With vLLM, rows do not depend on how they are spread over requests and servers (up to rounding in the model): each
    sample has its own seed. A server that tells no token ids (`return_token_ids`) gives rows of text alone.

    Args:
        urls: base URLs of the servers, which must serve one and the same model; `/v1` is added to a URL without path.
        model: name of the model on the servers; left out, the only one that they serve.
        endpoint: `completions` sends our token ids, so that the chat template is the tokenizer's and the prompt is
            exactly known; `chat` sends messages and leaves the template to the server. Prompts with images always go
            as messages.
        api_key: left out, the environment's OPENAI_API_KEY, which is the better place, for options are noted in files.
        concurrency: most requests in flight per URL; one request may ask for several samples.
        samples_per_request: most samples of a prompt in one request; 1 for servers that do not know `n`. Left out, all.
        retries: how often a request that failed by the server's fault is sent again before the run ends.
        backoff_seconds: the first pause after a failure; each further one is twice as long, up to a minute. The server
            may ask for another one (Retry-After).
        timeout_seconds: longest wait for an answer, the time in the server's queue included.
        startup_seconds: how long to wait for a server that does not answer yet; loading a large model takes minutes.
        extra_body: more fields for each request, such as `repetition_penalty`; they win over ours, and a null leaves
            ours out, as `seed: null` for a server that knows no seeds.
    """

    urls: list[str] = field(default_factory=lambda: ["http://localhost:8000/v1"])
    model: str | None = None
    endpoint: Literal["completions", "chat"] = "completions"
    api_key: str | None = field(default=None, repr=False)
    concurrency: int = 64
    samples_per_request: int | None = None
    retries: int = 8
    backoff_seconds: float = 1.0
    timeout_seconds: float = 600.0
    startup_seconds: float = 30.0
    extra_body: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        good_urls = not isinstance(self.urls, str) and self.urls and all(_is_url(url) for url in self.urls)
        for name, ok, wanted in (
            ("urls", good_urls, "a list of http:// or https:// URLs"),
            ("endpoint", self.endpoint in ("completions", "chat"), "`completions` or `chat`"),
            # 1000: the most connections that openai's client opens
            ("concurrency", 1 <= self.concurrency <= 1000, "between 1 and 1000"),
            ("samples_per_request", self.samples_per_request is None or self.samples_per_request >= 1, "at least 1"),
            ("retries", self.retries >= 0, "0 or more"),
            ("backoff_seconds", self.backoff_seconds >= 0, "0 or more"),
            ("timeout_seconds", self.timeout_seconds > 0, "positive"),
            ("startup_seconds", self.startup_seconds >= 0, "0 or more"),
        ):
            if not ok:
                raise InputError(f"`{name}` must be {wanted}, got {getattr(self, name)!r}.")
        if taken := sorted(_OURS.intersection(self.extra_body or {})):
            raise InputError(f"`extra_body` must leave {', '.join(sorted(_OURS))} to the engine, got {taken[0]}.")

    @property
    def wants_messages(self) -> bool:
        return self.endpoint == "chat"

    @property
    def reads_images(self) -> bool:
        return True

    def described(self) -> dict[str, Any]:
        extra = {"extra_body": self.extra_body} if self.extra_body else {}
        return {"engine": "openai", "endpoint": self.endpoint, **extra}

    def versions(self) -> dict[str, str]:
        try:
            found = {"openai": version("openai")}
        except PackageNotFoundError:
            found = {}
        if (served := _server_version(_base_url(self.urls[0]))) is not None:
            found["server"] = served
        return found

    def sample(self, policy: Policy, requests: Iterator[SamplingRequest]) -> Generator[Outcome, None, None]:
        # vLLM refuses several samples of one request at temperature 0
        most = 1 if policy.sampling.temperature == 0 else self.samples_per_request
        jobs = jobs_of(requests, most)
        if (first := next(jobs, None)) is None:
            return
        with event_loop() as loop, connected(loop, self._servers()) as servers:
            model, context = self._model(loop.run_until_complete(servers.start(self.startup_seconds)))
            bodies = Bodies(
                model=model,
                sampling=policy.sampling,
                chat=self.wants_messages,
                context=context,
                extra=self.extra_body or {},
            )
            work = Work(servers, bodies, policy.tokenizer)
            yield from drive(loop, work, chain([first], jobs), self.concurrency * len(servers.servers))

    def _servers(self) -> Servers:
        try:
            from openai import AsyncOpenAI, Timeout
        except ImportError as error:
            raise InputError(
                'the engine `openai` needs the package openai; install it with `pip install "lenvm[openai]"`.'
            ) from error
        key = self.api_key or os.environ.get("OPENAI_API_KEY") or "none"
        # a host that is not there is to be noticed long before a completion would be late
        timeout = Timeout(self.timeout_seconds, connect=min(self.timeout_seconds, _CONNECT_SECONDS))
        servers = [
            Server(url, AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=timeout))
            for url in dict.fromkeys(_base_url(url) for url in self.urls)
        ]
        return Servers(
            servers,
            concurrency=self.concurrency,
            retries=self.retries,
            backoff=self.backoff_seconds,
            patience=self.timeout_seconds,
        )

    def _model(self, models: list[dict[str, Any]]) -> tuple[str, int | None]:
        """The model's name, and its context length if the server tells (vLLM does)."""
        known = {str(model["id"]): model.get("max_model_len") for model in models}
        name = self.model if self.model is not None else next(iter(known), None)
        if name is None or (self.model is None and len(known) > 1):
            nothing = "does not list its models; check `urls`, which mostly end in /v1, or"
            listed = f"serves {', '.join(known)};" if known else nothing
            raise InputError(f"the server at {_base_url(self.urls[0])} {listed} set `model` to the one to sample from.")
        return name, known.get(name)


def _is_url(url: object) -> bool:
    return isinstance(url, str) and urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).netloc)


def _base_url(url: str) -> str:
    url = url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def _server_version(base_url: str) -> str | None:
    """What vLLM tells at its root; None from servers that do not."""
    parts = urlsplit(base_url)
    try:
        with urlopen(f"{parts.scheme}://{parts.netloc}/version", timeout=2) as answer:
            told = json.loads(answer.read(10_000))["version"]
    except (OSError, ValueError, LookupError, TypeError, HTTPException):
        return None
    return told if isinstance(told, str) else None

"""A real HTTP server on loopback that answers as a test tells it, and counts."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from lenvm.data.rollout import Rollout
from lenvm.rollout.engines.base import SamplingRequest
from lenvm.rollout.engines.openai import OpenAIEngine

EOS = 3


class Reply(NamedTuple):
    """An answer: JSON or bytes, after a delay; None as content closes the connection without one."""

    content: Any
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    delay: float = 0.0


class Seen(NamedTuple):
    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float


Script = Callable[[int, Seen], Reply | None]
"""The number of a completion request and the request to an answer; None answers as a good server does."""


def completion(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What vLLM would answer: one choice per seed, whose text and ids tell the seed."""
    choices = []
    for k in range(body.get("n", 1)):
        seed = body["seed"] + k
        said = {"message": {"content": str(seed)}} if "messages" in body else {"text": str(seed)}
        choice = {"index": k, "finish_reason": "stop", "stop_reason": None, **said}
        if body.get("return_token_ids"):
            choice |= {"token_ids": [10 + seed % 50, EOS]}
        choices.append(choice | fields)
    answer = {"choices": choices[::-1]}
    if not body.get("return_token_ids"):
        return answer
    if "messages" in body:
        return answer | {"prompt_token_ids": [8, 9]}
    for choice in choices:
        choice["prompt_token_ids"] = body["prompt"]
    return answer


class ScriptedServer:
    """Answers completions by a script, and /models and /version as vLLM does."""

    def __init__(
        self, script: Script | None = None, models: list[dict[str, Any]] | Callable[[], Reply] | None = None
    ) -> None:
        self.script = script or (lambda number, seen: None)
        self.models = [{"id": "policy"}] if models is None else models
        self.seen: list[Seen] = []
        self.in_flight = self.most_in_flight = 0
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._http = _QuietServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [seen.body for seen in self.seen]

    def close(self) -> None:
        """Ends the server and all its connections, as a crash would."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                connection.shutdown(socket.SHUT_RDWR)

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> Reply:
        if handler.path.endswith("/models"):
            return self.models() if callable(self.models) else Reply({"data": self.models})
        if handler.path == "/version":
            return Reply({"version": "1.2.3"})
        with self._lock:
            seen = Seen(handler.path, body, {k.lower(): v for k, v in handler.headers.items()}, time.monotonic())
            self.seen.append(seen)
            number = len(self.seen) - 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            reply = self.script(number, seen) or Reply(completion(body))
            self.closed.wait(reply.delay)
            return reply
        finally:
            with self._lock:
                self.in_flight -= 1

    def connected(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def disconnected(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)


class _QuietServer(ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error here."""


def _handler(owner: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            owner.connected(self.connection)

        def finish(self) -> None:
            owner.disconnected(self.connection)
            super().finish()

        def do_GET(self) -> None:
            self._reply(owner.answer(self, {}))

        def do_POST(self) -> None:
            self._reply(owner.answer(self, json.loads(self.rfile.read(int(self.headers["content-length"])))))

        def _reply(self, reply: Reply) -> None:
            if reply.content is None or owner.closed.is_set():
                self.close_connection = True
                return
            raw = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
            self.send_response(reply.status)
            for name, value in {"content-length": str(len(raw)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def fast_engine(servers: list[ScriptedServer], **options: Any) -> OpenAIEngine:
    fast: dict[str, Any] = {"backoff_seconds": 0.01, "startup_seconds": 0.0, "timeout_seconds": 20.0}
    return OpenAIEngine(urls=[server.url for server in servers], **{**fast, **options})


def requests_for(count: int, samples: tuple[int, ...] = (0,), **fields: Any) -> list[SamplingRequest]:
    return [
        SamplingRequest([5, 6, 7 + i], Rollout(prompt=f"question {i}", prompt_id=f"p{i}", **fields), samples)
        for i in range(count)
    ]

"""A page and its news over HTTP, for browsers on this machine: server-sent events and nothing else."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self

from lenvm.errors import InputError

_HOST = "127.0.0.1"
_LAST_WORDS = 5.0
"""Seconds that readers have to take the last events before the server goes."""
_HEARTBEAT = 10.0
"""Seconds of silence after which a comment is sent, which shows whether the reader is still there."""


class EventServer:
    """Serves one page at `/` and the events that were published at `/events`, from the first one on.

    Whoever comes late, or comes back, gets what was missed.

    Args:
        page: the HTML.
        port: where; 0 takes any that is free.

    Raises:
        InputError: if the port cannot be had.
    """

    def __init__(self, page: str, port: int = 0) -> None:
        self._changed = Condition()
        self._events: list[bytes] = []
        self._readers = self._seen = 0
        self._closing = False
        handler = _handler(self, page.encode())
        try:
            self._server = ThreadingHTTPServer((_HOST, port), handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"cannot serve on port {port} ({error}); give another `port`, or 0 for any that is free."
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://{_HOST}:{self.port}/"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._readers == 0, _LAST_WORDS)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def publish(self, event: str, data: Any) -> None:
        """Sends an event to all who listen, now or later."""
        text = json.dumps(data, ensure_ascii=True, allow_nan=False)
        with self._changed:
            number = len(self._events)
            self._events.append(f"id: {number}\nevent: {event}\ndata: {text}\n\n".encode())
            self._changed.notify_all()

    def wait_for_reader(self, seconds: float) -> bool:
        """Waits until somebody listens; returns whether somebody does."""
        with self._changed:
            return self._changed.wait_for(lambda: self._seen > 0, seconds)

    def feed(self, write: Any, first: int) -> None:
        """Hands events to one reader, from number `first` on, until the server closes."""
        with self._changed:
            self._readers, self._seen = self._readers + 1, self._seen + 1
            self._changed.notify_all()
        try:
            sent = first
            while True:
                with self._changed:
                    since = time.monotonic()
                    self._changed.wait_for(lambda: len(self._events) > sent or self._closing, _HEARTBEAT)  # noqa: B023
                    waiting, closing = self._events[sent:], self._closing
                if not waiting and closing:
                    return
                if waiting or time.monotonic() - since >= _HEARTBEAT:
                    write(b"".join(waiting) or b":\n\n")
                sent += len(waiting)
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()


def _handler(events: EventServer, page: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers one browser."""

        def do_GET(self) -> None:
            # a foreign page whose name was made to point here must not read along
            if self.headers.get("Host", "").removesuffix(f":{events.port}") not in (_HOST, "localhost"):
                self.send_error(403)
            elif self.path == "/":
                self._head("text/html; charset=utf-8", len(page))
                self.wfile.write(page)
            elif self.path == "/events":
                self._head("text/event-stream", None)
                last = self.headers.get("Last-Event-ID", "")
                try:
                    events.feed(self._send, int(last) + 1 if last.isdecimal() else 0)
                except OSError:
                    return  # the reader has gone
            else:
                self.send_error(404)

        def _head(self, kind: str, length: int | None) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", "no-store")
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()

        def _send(self, content: bytes) -> None:
            self.wfile.write(content)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            """Requests are no news."""

    return Handler

"""Starts vLLM's OpenAI server for tests and benchmarks, and ends it with all its children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

_START_SECONDS = 180
# chunked prefill with seeds per request ends vLLM 0.32 on a CPU ("CPU Generator does not use offset")
_OPTIONS = {"dtype": "float32", "no_enable_chunked_prefill": True}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def vllm_server(model: str | Path, port: int | None = None, **options: object) -> Iterator[str]:
    """Serves a model, and yields the base URL once the server is ready.

    Args:
        model: folder or name of the model.
        port: on loopback; None takes a free one.
        options: of vLLM's server, as `max_model_len=256` for `--max-model-len 256`; True gives a bare flag.
    """
    port = free_port() if port is None else port
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    for name, value in {"host": "127.0.0.1", "port": port, **_OPTIONS, **options}.items():
        command += [f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", str(value)]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", **os.environ}
    with tempfile.TemporaryFile() as log:
        # its own session: the engine runs in children of the server, and they are to end with it
        server = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            _wait(server, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            _end(server)


def _wait(server: subprocess.Popen[bytes], url: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.3)
    log.seek(0)
    raise RuntimeError(f"vLLM's server did not start:\n{log.read().decode(errors='replace')[-4000:]}")


def _end(server: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            break
        try:
            server.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    server.wait(5)

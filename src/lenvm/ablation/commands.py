"""Running other commands of `lenvm` as processes of their own: one that crashes takes nothing along."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lenvm.errors import InputError

_SET_PARENT_DEATH_SIGNAL = 1
_SHOWN_LINES = 3
_ERROR = "lenvm: error: "
_INTERRUPTED = 130


def run_command(arguments: Sequence[str], log: Path | None = None, threads: int | None = None) -> None:
    """Runs `lenvm` with these arguments, by the Python that runs this.

    The process ends with the one that started it, however that ends (on Linux), so that a command which is started
    again finds nobody in its folders.

    Args:
        arguments: what stands behind `lenvm`.
        log: file for its output, which is added to; left out, the terminal.
        threads: CPU threads that it may use; left out, what it likes.

    Raises:
        InputError: if it fails; with the end of its log.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", "lenvm", *arguments]
    options = {"env": environment, "preexec_fn": _end_with_parent if sys.platform == "linux" else None}
    if log is None:
        code = subprocess.run(command, **options).returncode  # type: ignore[call-overload]
    else:
        with log.open("ab") as output:
            code = subprocess.run(command, stdout=output, stderr=output, **options).returncode  # type: ignore[call-overload]
    if code in (-signal.SIGINT, _INTERRUPTED):
        raise KeyboardInterrupt
    if code < 0:
        name = signal.Signals(-code).name
        why = ", perhaps because memory ran out" if code == -signal.SIGKILL else ""
        raise InputError(f"`lenvm {' '.join(arguments)}` was ended by {name}{why}; run it again to go on.")
    if code != 0:
        raise InputError(f"`lenvm {' '.join(arguments)}` failed{_end_of(log)}")


def _end_of(log: Path | None) -> str:
    if log is None:
        return "; what is wrong stands above."
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)][-1:]
    return f": {' / '.join(said or lines[-_SHOWN_LINES:])} ({log})"


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)

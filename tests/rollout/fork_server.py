"""Runs `lenvm` commands in forks of a process that has imported everything: a start costs milliseconds, not seconds.

Reads one JSON list of words a line; answers with the process id of the fork, and with its exit code when it has ended.
"""

from __future__ import annotations

import json
import os
import sys

import torch

from lenvm.cli.main import main
from lenvm.rollout import run as _run  # noqa: F401 - imported before the forks


def serve() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        words = json.loads(line)
        if (child := os.fork()) == 0:
            with open(words[0], "a", encoding="utf-8") as log:  # noqa: PTH123
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                code = main(words[1:])
                sys.stdout.flush()
                os._exit(code)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    serve()

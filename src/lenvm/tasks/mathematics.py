"""Whether a mathematical answer is right: math-verify on the last boxed answer, with a time limit that always holds."""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError

SECONDS = 5.0
"""Longest time for one comparison; what takes longer counts as wrong."""

_LONGEST_ANSWER = 2000
_TAIL = 2000
"""Characters at the end of a completion without a boxed answer in which an answer is looked for."""

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_LAYOUT = re.compile(r"\\(?:left|right|!|,|;|:|\s)|[\s$]")


def grade_math(prompt: Rollout, completion: str) -> bool | None:
    """The grader of tasks with a mathematical reference."""
    return None if prompt.reference is None else is_right(prompt.reference, completion)


def is_right(reference: str, completion: str) -> bool:
    r"""Whether a completion's answer equals the reference: as text, as a number or as an expression.

    The answer is what the last whole `\boxed{...}` behind any `</think>` holds; without one, what math-verify finds in
    the last lines (after `answer is`, or else the last number, as in the authors' evaluation). Never raises for
    anything a model may write; may be called from any thread.
    """
    text = completion.rpartition("</think>")[2]
    boxed = boxed_answer(text)
    if boxed is None:
        tail = text[-_TAIL:]
        return bool(tail.strip()) and _COMPARISON.equal(reference, tail, boxed=False)
    return equal_answers(reference, boxed)


def equal_answers(reference: str, answer: str) -> bool:
    """Whether two answers, without the text around them, mean the same."""
    if _plain(reference) == _plain(answer):
        return True
    return 0 < len(answer.strip()) <= _LONGEST_ANSWER and _COMPARISON.equal(reference, answer, boxed=True)


def boxed_answer(text: str) -> str | None:
    r"""What the last `\boxed{...}` that is closed holds; None without one. Takes time in proportion to the text."""
    opened: list[int | None] = []
    answer = None
    for token in _BRACES.finditer(text):
        if token.group() == "}":
            start = opened.pop() if opened else None
            if start is not None:
                answer = text[start : token.start()]
        elif token.group()[-1] == "{" and token.group() != r"\{":
            opened.append(token.end() if token.group()[0] == "\\" else None)
    return answer


def _plain(answer: str) -> str:
    """An answer without what is only layout; words without their case."""
    answer = _LAYOUT.sub("", _WRAPPED.sub(r"\1", answer)).replace(r"\dfrac", r"\frac").rstrip(".")
    return answer.casefold() if len(answer) > 1 and answer.isalpha() else answer


class _Comparison:
    """A process that compares answers; started when needed, and again after it had to end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def equal(self, reference: str, answer: str, *, boxed: bool) -> bool:
        with self._lock:
            sent, received = self._pipes()
            try:
                sent.write(json.dumps([reference, answer, boxed]).encode() + b"\n")
                sent.flush()
                line = received.readline()
            except OSError:
                line = b""
            except BaseException:  # an interrupt: the verdict that is still to come belongs to no later question
                self.close()
                raise
            if not line:
                self.close()
                return False
            return bool(json.loads(line))

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        # after a fork, the parent's process is not to be shared
        if self._process is None or self._owner != os.getpid():
            script = str(Path(__file__).with_name("math_process.py"))
            command = [sys.executable, "-P", script, str(SECONDS)]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
            self._owner = os.getpid()
            if not (self._process.stdout and self._process.stdout.readline()):
                self.close()
                raise InputError("math-verify cannot be imported; install it with `pip install math-verify`.")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.communicate()


_COMPARISON = _Comparison()
atexit.register(_COMPARISON.close)

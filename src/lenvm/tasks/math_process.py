"""The process in which answers are compared: run as a script, it reads questions and writes verdicts as JSON lines.

Comparing what a language model wrote can take forever or fill the memory (`9^{9^{9}}`), inside of C code that no signal
and no thread of Python can stop. Hence a process of its own, which ends itself. It is run by its path and imports
nothing of lenvm, so that it is there within a second.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from pathlib import Path
from typing import Any

_MEMORY = 4 << 30


def main() -> None:
    """Answers `[reference, given, is_boxed]` with `true` or `false` until the input ends.

    The process ends, with nothing said, when an answer takes longer than the seconds that it was started with.
    """
    seconds = float(sys.argv[1])
    _limit_memory()
    equal = _comparison(seconds)
    _say("ready")
    with Path(os.devnull).open("w") as nowhere:
        for line in sys.stdin.buffer:
            # a watchdog in C, which acts even while the interpreter is locked
            faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
            try:
                verdict = equal(*json.loads(line))
            except BaseException:
                verdict = False
            faulthandler.cancel_dump_traceback_later()
            _say(verdict)


def _comparison(seconds: float) -> Any:
    import logging

    from latex2sympy2_extended import NormalizationConfig
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)
    # the library's own limit needs signals; it spares the start of a new process in most cases
    limit = max(1, int(seconds) - 1) if os.name == "posix" else None
    normal = NormalizationConfig(
        basic_latex=True, units=True, malformed_operators=True, nits=True, boxed="all", equations=False
    )
    latex = LatexExtractionConfig(normalization_config=normal, boxed_match_priority=0, try_extract_without_anchor=False)

    def parsed(text: str, boxed: bool) -> Any:
        targets = [latex, ExprExtractionConfig()]
        text = f"\\boxed{{{text}}}" if boxed else text
        return parse(text, targets, extraction_mode="first_match", parsing_timeout=limit)

    def equal(reference: str, given: str, is_boxed: bool) -> bool:
        return bool(verify(parsed(reference, True), parsed(given, is_boxed), timeout_seconds=limit))

    return equal


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY if most < 0 else min(_MEMORY, most), most))


def _say(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

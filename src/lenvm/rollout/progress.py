"""How far a run has come: a live line on a terminal, a printed line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lenvm.data.rollout import Rollout
from lenvm.rollout.engines import Failed
from lenvm.rollout.failures import FailureLog

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_LOOKS = 0.1


@contextmanager
def reading_prompts() -> Iterator[Callable[[], None]]:
    """A counter on the terminal while prompts are chosen; yields what is called for every row."""
    columns = SpinnerColumn(), TextColumn("Reading prompts: {task.completed:,} rows"), TimeElapsedColumn()
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        rows = 0

        def tick() -> None:
            nonlocal rows
            rows += 1
            if rows % 1000 == 0:
                progress.update(task, completed=rows)

        yield tick


class RolloutProgress:
    """What becomes of the prompts of a run, counted and shown.

    Attributes:
        completions: completions of this run.
        tokens: their tokens.
        cut: how many of them the limit cut.
        present: prompts that had all their samples before.

    Args:
        description: what is going on.
        total: prompts there are.
        failures: where failed prompts are noted.
    """

    def __init__(self, description: str, total: int, failures: FailureLog) -> None:
        self.completions = self.tokens = self.cut = self.present = 0
        self._failures, self._total, self._done = failures, total, 0
        self._open: dict[str, int] = {}
        self._prompts_asked = self._samples_asked = 0
        console = Console(file=sys.stderr)
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"), TimeElapsedColumn()
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(description, total=total, facts="")
        self._start = self._last_shown = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.update(self._task, completed=self._done, facts=self._facts())
        self._bar.stop()

    def start(self) -> None:
        """The engine is ready: the clock of the speed starts."""
        self._start = time.monotonic()
        self._bar.update(self._task, description="Sampling")

    def skip(self) -> None:
        """A prompt had all its samples before."""
        self.present += 1
        self._advance()

    def fail(self, failed: Failed) -> None:
        """A prompt, or a row that was to be one, cannot be completed.

        Raises:
            InputError: if it is one too many.
        """
        self._failures.add(failed)
        if self._open.pop(failed.prompt_id, None) is not None:
            self._advance()

    def ask(self, prompt_id: str, samples: int) -> None:
        """A prompt is under way."""
        self._open[prompt_id] = samples
        self._prompts_asked += 1
        self._samples_asked += samples

    def finish(self, rollout: Rollout) -> None:
        """A completion is finished."""
        self.completions += 1
        self.tokens += len(rollout.completion_ids or [])
        self.cut += rollout.finish_reason == "length"
        left = self._open.get(rollout.prompt_id, 0) - 1
        if left > 0:
            self._open[rollout.prompt_id] = left
            self._show()
        elif self._open.pop(rollout.prompt_id, None) is not None:
            self._advance()

    def forget(self, prompt_id: str) -> None:
        """A prompt that was only asked for on trial is dealt with."""
        del self._open[prompt_id]
        self._advance()

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return max(time.monotonic() - self._start, 1e-3)

    def _advance(self) -> None:
        self._done += 1
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last_shown < (_SECONDS_BETWEEN_LINES if self._bar.disable else _SECONDS_BETWEEN_LOOKS):
            return
        self._last_shown = now
        facts = self._facts()
        self._bar.update(self._task, completed=self._done, facts=facts)
        if self._bar.disable:
            print(facts, file=sys.stderr, flush=True)

    def _facts(self) -> str:
        facts = f"{self._done:,}/{self._total:,} prompts"
        if self._failures.count:
            facts += f", {self._failures.count:,} failed"
        if self.completions:
            # a server may tell no tokens
            done, unit = (self.tokens, "tokens") if self.tokens else (self.completions, "completions")
            facts += f", {done / self.seconds:,.0f} {unit}/s, {self.cut / self.completions:.1%} cut"
            unasked = max(self._total - self._done - len(self._open), 0)
            left = sum(self._open.values()) + unasked * self._samples_asked / self._prompts_asked
            facts += f", {timedelta(seconds=round(self.seconds / self.completions * left))} left"
        return facts

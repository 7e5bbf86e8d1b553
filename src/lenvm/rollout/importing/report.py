"""What happened while foreign rows were taken over."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from lenvm.data.rollout import Rollout
from lenvm.data.store import OnBadRow
from lenvm.errors import InputError

_MOST_REASONS = 50  # rows may differ in what is wrong with them without end


@dataclass(kw_only=True)
class ImportReport:
    """Counts rows that were taken, and refuses or counts those that cannot be.

    Args:
        on_bad_row: `stop` raises at the first bad row; `skip` counts it.
        rows: rows that were taken.
        cut: how many of them were cut by the sampler's limit.
        skipped: rows that were passed over, by reason.
        first_skipped: the first of them, with its place.
    """

    on_bad_row: OnBadRow = "stop"
    rows: int = 0
    cut: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    first_skipped: str | None = None
    # eight bytes per completion: a set of the ids themselves would take a hundred
    _prompts: array[int] = field(default_factory=lambda: array("Q"), repr=False)

    def take(self, rollout: Rollout) -> None:
        """Counts a row that is kept."""
        self.rows += 1
        self.cut += rollout.finish_reason == "length"
        name = rollout.prompt_id.encode("utf-8", "surrogatepass")
        digest = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
        if not self._prompts or self._prompts[-1] != digest:
            self._prompts.append(digest)

    def refuse(self, place: str, reason: str) -> None:
        """Counts a row that cannot be used.

        Raises:
            InputError: under `stop`, with the place and the reason.
        """
        if self.on_bad_row == "stop":
            raise InputError(f"{place}: {reason}. Mend the row, or pass `--on_bad_row skip` to pass over such rows.")
        kind = re.split(r": | \(|, got |; ", reason)[0]
        known = kind in self.skipped or len(self.skipped) < _MOST_REASONS
        self.skipped[kind if known else "other reasons"] += 1
        self.first_skipped = self.first_skipped or f"{place}: {reason}"

    @property
    def num_prompts(self) -> int:
        """Different prompts among the rows that were taken."""
        return len(np.unique(np.frombuffer(self._prompts, dtype=np.uint64))) if self._prompts else 0

    def lines(self) -> list[str]:
        """What was skipped and why, for people; nothing if nothing was."""
        if not self.skipped:
            return []
        total = self.skipped.total()
        were = "rows were" if total > 1 else "row was"
        counted = [f"  {count:,} x {kind}" for kind, count in self.skipped.most_common()]
        return [
            f"{total:,} bad {were} skipped; the first: {self.first_skipped}.",
            *counted,
        ]

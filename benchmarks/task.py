"""What is timed: rows to write, and a clock that waits for the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from lenvm.decoding.guidance import Guidance
from lenvm.decoding.loop import Row, Written, decode
from lenvm.decoding.settings import SamplingSettings
from models import ROOT

STORIES = ROOT.parent / "shared" / "data" / "stories260K"
OPENINGS = (
    "Once upon a time", "One day", "Lily", "Tom", "There was a little", "The dog", "A big bear", "Mom and",
    "In the park", "Ben and Mia", "It was a sunny day", "Sam had a toy", "The cat wanted", "Anna loved to",
    "Tim saw a", "Once there was",
)  # fmt: skip


@dataclass
class Task:
    """Rows to write: everything but the guidance."""

    generator: PreTrainedModel
    prompts: list[list[int]]
    rows: list[Row]
    eos: list[int]
    settings: SamplingSettings

    def write(self, guidance: Guidance | None = None, **options: Any) -> list[Written]:
        """All completions, in the order of the rows."""
        written = decode(self.generator, self.prompts, self.rows, self.eos, self.settings, guidance=guidance, **options)
        return sorted(written, key=lambda w: w.row)


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """How long it takes, the device's work included."""
    _wait(device)
    start = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

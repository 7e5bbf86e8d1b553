"""One cell of a grid: a `lenvm fit` in a folder of its own, run once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lenvm.ablation.fits import Fit

_RESULT = "cell.json"


class CellResult(NamedTuple):
    """What a finished cell has measured.

    Attributes:
        cell: the cell.
        metrics: the last value of everything that it logged, such as `val/loss`.
        parameters: number of weights of its model.
        folder: where everything of it is.
    """

    cell: Cell
    metrics: dict[str, float]
    parameters: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A base configuration with other values.

    Args:
        base: configuration of `lenvm fit`.
        labels: dotted option to the label of its value.
        options: dotted option to its value.
        seed: `seed_everything`.
    """

    base: Path
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    @property
    def short_labels(self) -> dict[str, str]:
        """The label of every axis by the last word of its option, and the seed."""
        return {**{key.rpartition(".")[2]: label for key, label in self.labels.items()}, "seed": str(self.seed)}

    @property
    def name(self) -> str:
        """Names the cell and its folder."""
        return ",".join(f"{key}={label}" for key, label in self.short_labels.items()).replace(os.sep, "_")

    def fit(self, folder: Path) -> Fit:
        """The fit that it is, in a folder."""
        return Fit(configs=[self.base], folder=folder, options={**self.options, "seed_everything": str(self.seed)})

    def run(self, folder: Path, threads: int) -> CellResult:
        """Runs it, unless it is finished; goes on from its last checkpoint, if it has one.

        Args:
            folder: everything of the cell goes there.
            threads: CPU threads that it may use.

        Raises:
            InputError: if it fails, with the end of its log, or if the folder has a cell with other settings.
        """
        if (finished := self.finished(folder)) is not None:
            return finished
        fit, log = self.fit(folder), folder / "log.txt"
        fit.run(log, threads, quiet=True)
        metrics = _last_scalars(folder)
        if not any(name.startswith("val/") for name in metrics):
            # it was killed after its last step and before it validated, and there was nothing left to go on with
            fit.clear()
            fit.run(log, threads, quiet=True)
            metrics = _last_scalars(folder)
        result = CellResult(self, metrics, _parameters(folder), folder)
        partial = folder / f"{_RESULT}.partial"
        facts = {"metrics": result.metrics, "parameters": result.parameters}
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / _RESULT)
        return result

    def finished(self, folder: Path) -> CellResult | None:
        """What it has measured, if it is finished.

        Raises:
            InputError: if a cell with other settings has run in this folder.
        """
        if not self.fit(folder).is_finished or not (folder / _RESULT).exists():
            return None
        facts = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
        return CellResult(self, facts["metrics"], facts["parameters"], folder)


def logged(folder: Path) -> list[tuple[str, int, float]]:
    """Every scalar that a fit wrote to TensorBoard, in the order of its steps: name, step and value."""
    board = folder / "tensorboard"
    if not board.is_dir():
        return []
    events = EventAccumulator(str(board), size_guidance={"scalars": 0}).Reload()
    return [(tag, event.step, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]


def _last_scalars(folder: Path) -> dict[str, float]:
    return {name: value for name, _, value in logged(folder)}


def _parameters(folder: Path) -> int:
    with safe_open(folder / "model" / "model.safetensors", framework="numpy") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118 (no dict)

"""One cell of a grid: a `lenvm fit` in a folder of its own, run once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import yaml
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lenvm.ablation.fits import fit
from lenvm.errors import InputError

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
    def name(self) -> str:
        """Names the cell and its folder: the last word of every option with its label, and the seed."""
        named = {key.rpartition(".")[2]: label for key, label in self.labels.items()}
        return ",".join(f"{key}={label}" for key, label in {**named, "seed": self.seed}.items()).replace(os.sep, "_")

    def arguments(self, folder: Path) -> list[str]:
        """The options of `lenvm fit` that run it into a folder."""
        return [
            "--config",
            str(self.base),
            *(f"--{key}={value}" for key, value in self.options.items()),
            f"--seed_everything={self.seed}",
            f"--trainer.default_root_dir={folder}",
        ]

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
        quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        fit([*self.arguments(folder), *quiet], folder, folder / "log.txt", threads)
        result = CellResult(self, _last_scalars(folder), _parameters(folder), folder)
        facts = {"settings": self._settings(), "metrics": result.metrics, "parameters": result.parameters}
        partial = folder / f"{_RESULT}.partial"
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / _RESULT)
        return result

    def finished(self, folder: Path) -> CellResult | None:
        """What it has measured, if it is finished.

        Raises:
            InputError: if a cell with other settings has run in this folder.
        """
        file = folder / _RESULT
        if not file.exists():
            return None
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts["settings"] != self._settings():
            raise InputError(f"{folder} holds a cell with other settings; remove it, or choose another `--output`.")
        return CellResult(self, facts["metrics"], facts["parameters"], folder)

    def _settings(self) -> dict[str, Any]:
        files = [self.base, *(Path(value) for value in self.options.values() if _is_yaml(value))]
        read = {str(file): text for start in files for file, text in _with_named_files(start)}
        return {"files": read, "options": dict(self.options), "seed": self.seed}


def _with_named_files(file: Path) -> Iterator[tuple[Path, str]]:
    """A YAML file and all those that its values name, with their texts: together they decide what a cell does."""
    text = file.read_text(encoding="utf-8")
    yield file, text
    values = [yaml.safe_load(text)]
    while values:
        value = values.pop()
        if isinstance(value, dict | list):
            values += value.values() if isinstance(value, dict) else value
        elif _is_yaml(value) and (named := file.parent / value).is_file():
            yield from _with_named_files(named)


def _is_yaml(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.endswith((".yaml", ".yml"))


def _last_scalars(folder: Path) -> dict[str, float]:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


def _parameters(folder: Path) -> int:
    with safe_open(folder / "model" / "model.safetensors", framework="numpy") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118 (no dict)

"""A grid file: a base configuration, axes of values, and seeds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lenvm.ablation.cells import Cell
from lenvm.ablation.claims import Claim
from lenvm.ablation.tuning import Tuning
from lenvm.errors import InputError

_KEYS = {"base", "axes", "seeds", "rollouts", "metrics", "claims", "tune"}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of values, with every seed.

    Args:
        file: where it was read.
        base: configuration of `lenvm fit` that all cells share.
        axes: dotted option to value by label; the values are as `lenvm fit` takes them. The option `config` lays whole
            files over the base.
        seeds: `seed_everything` of the cells.
        rollouts: recipes of `lenvm rollout` that make what the base configuration reads.
        metrics: what is shown of every cell, of all that `lenvm fit` logs; the first is drawn. Less is better.
        claims: what is said about the values, to be judged.
        tune: a search that gives every combination of values its own setting; None for none.
    """

    file: Path
    base: Path
    axes: Mapping[str, Mapping[str, str]]
    seeds: tuple[int, ...]
    rollouts: tuple[Path, ...]
    metrics: tuple[str, ...] = ("val/loss",)
    claims: tuple[Claim, ...] = ()
    tune: Tuning | None = None

    def cells(self) -> Iterator[Cell]:
        """The cells, the last axis changing fastest and seeds faster still.

        Raises:
            InputError: if two of them have one name.
        """
        names = set[str]()
        for labels in itertools.product(*self.axes.values()):
            chosen = dict(zip(self.axes, labels, strict=True))
            options = {key: self.axes[key][label] for key, label in chosen.items()}
            for seed in self.seeds:
                cell = Cell(base=self.base, labels=chosen, options=options, seed=seed)
                if cell.name in names:
                    raise InputError(f"{self.file}: two cells are called {cell.name!r}; give the values other labels.")
                names.add(cell.name)
                yield cell


def read_grid(file: Path) -> Grid:
    """Reads a grid file; paths in it are relative to it.

    Raises:
        InputError: naming the file and the key that is wrong.
    """
    if not file.is_file():
        raise InputError(f"expected the YAML file of a grid, found none at {file}.")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(content, dict) or not {"base", "axes"} <= set(content):
        raise InputError(f"{file} must have `base`, a configuration of `lenvm fit`, and `axes`.")
    if unknown := sorted(set(content) - _KEYS):
        raise InputError(f"{file} has the unknown key {unknown[0]!r}; a grid has {', '.join(sorted(_KEYS))}.")
    seeds = content.get("seeds", [0])
    if not (isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)):
        raise InputError(f"{file}: `seeds` must be whole numbers of at least 0, got {seeds!r}.")
    if not isinstance(content["axes"], dict) or not content["axes"]:
        raise InputError(f"{file}: `axes` must name options of `lenvm fit` with their values, got {content['axes']!r}.")
    rollouts = content.get("rollouts") or []
    if not isinstance(rollouts, list):
        raise InputError(f"{file}: `rollouts` must be a list of recipes of `lenvm rollout`, got {rollouts!r}.")
    return Grid(
        file=file,
        base=_file(file, "base", content["base"]),
        axes={str(key): _values(file, str(key), values) for key, values in content["axes"].items()},
        seeds=tuple(seeds),
        rollouts=tuple(_file(file, "rollouts", name) for name in rollouts),
        metrics=_metrics(file, content.get("metrics", ["val/loss"])),
        claims=tuple(_claim(file, found, content["axes"]) for found in content.get("claims") or []),
        tune=None if content.get("tune") is None else _tuning(file, content["tune"], content["axes"]),
    )


def _metrics(grid: Path, names: Any) -> tuple[str, ...]:
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise InputError(
            f"{grid}: `metrics` must be a list of what `lenvm fit` logs, such as [val/loss], got {names!r}."
        )
    return tuple(names)


def _tuning(grid: Path, found: Any, axes: Mapping[str, Any]) -> Tuning:
    if not (isinstance(found, dict) and set(found) == {"option", "values", "metric"}):
        raise InputError(f"{grid}: `tune` must have option, values and metric, got {found!r}.")
    option = str(found["option"])
    if option in axes:
        raise InputError(f"{grid}: `tune` searches `{option}`, which is an axis too; leave one of them out.")
    return Tuning(option, _values(grid, option, found["values"]), str(found["metric"]))


def _claim(grid: Path, found: Any, axes: Mapping[str, Any]) -> Claim:
    """A claim of a grid file; the values that it names must be on the axis that it names."""
    wanted = {"claim", "metric", "axis", "better", "than"}
    if not (isinstance(found, dict) and set(found) == wanted and isinstance(found["than"], list) and found["than"]):
        raise InputError(f"{grid}: one of `claims` must have {', '.join(sorted(wanted))} (a list), got {found!r}.")
    if found["axis"] not in axes:
        raise InputError(f"{grid}: a claim names the axis {found['axis']!r}; the grid has {', '.join(map(str, axes))}.")
    labels = [str(label) for label in axes[found["axis"]]]
    than = tuple(str(label) for label in found["than"])
    if missing := [label for label in (str(found["better"]), *than) if label not in labels]:
        raise InputError(f"{grid}: a claim names {missing[0]!r}; `{found['axis']}` has {', '.join(labels)}.")
    words, metric = str(found["claim"]), str(found["metric"])
    return Claim(claim=words, metric=metric, axis=found["axis"], better=str(found["better"]), than=than)


def _file(grid: Path, key: str, name: Any) -> Path:
    path = grid.parent / str(name)
    if not path.is_file():
        raise InputError(f"{grid}: `{key}` names {name}, but there is no file {path}.")
    return Path(*path.resolve().relative_to(Path.cwd()).parts) if path.resolve().is_relative_to(Path.cwd()) else path


def _values(grid: Path, key: str, values: Any) -> dict[str, str]:
    """Values by label; of a list, each is its own label."""
    if isinstance(values, list):
        values = {str(value): value for value in values}
    if not isinstance(values, dict) or not values:
        raise InputError(f"{grid}: the axis `{key}` needs a list of values, or values by name, got {values!r}.")
    return {str(label): _as_option(grid, key, value) for label, value in values.items()}


def _as_option(grid: Path, key: str, value: Any) -> str:
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        return str(_file(grid, key, value))
    return value if isinstance(value, str) else json.dumps(value)

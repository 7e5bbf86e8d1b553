"""`lenvm ablate`: a grid over `lenvm fit`, checked, run, and compared."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from pathlib import Path

from lenvm.ablation import Cell, Grid, read_grid
from lenvm.ablation.results import write_comparison
from lenvm.ablation.run import run_cells
from lenvm.ablation.tuning import candidates, tuned
from lenvm.cli.lightning import LenvmCLI, command_line
from lenvm.errors import InputError


def ablate(
    grid: Path,
    *,
    output: Path | None = None,
    only: list[str] | str | None = None,
    jobs: int | None = None,
    dry_run: bool = False,
) -> None:
    """Runs every cell of a grid of fits, and compares them in a table, a figure and one TensorBoard folder.

    Each cell is a `lenvm fit` in a process and a folder of its own, under `cells/` of the output folder. One that fails
    or diverges does not stop the others. Run again, finished cells are not repeated, and one that was stopped goes on
    from its last checkpoint.

    Args:
        grid: the YAML file of the grid, such as ablations/scaling_prompts.yaml.
        output: folder for everything that is written; left out, `results/ablations/` and the name of the file.
        only: cells to run and compare, as `NAME=VALUE` with the last word of an option, several of them with commas, as
            in `target=raw,target=log,seed=0`: one name's values add up, different names narrow down.
        jobs: cells at once; left out, two where there are two CPU threads.
        dry_run: check all cells, and print them with their full commands, without running any.
    """
    read = read_grid(grid)
    cells = chosen(list(read.cells()), only.split(",") if isinstance(only, str) else only or [])
    folder = output or Path("results/ablations") / grid.stem
    at_once = jobs or min(os.cpu_count() or 1, 2)
    searched = [] if read.tune is None else _placed(candidates(cells, read.tune), folder)
    places = searched or _placed(cells, folder)
    for cell, place in places:
        _check(cell, place, read)
    if dry_run:
        for cell, place in places:
            print(f"{cell.name}: {shlex.join(['lenvm', 'fit', *cell.fit(place).arguments])}")
        more = f", and {len(cells)} with the best `{read.tune.option}` of these" if read.tune is not None else ""
        print(f"Dry run: {len(places)} cells{more}.")
        return
    failures: dict[Path, str] = {}
    if read.tune is not None:
        failures = run_cells(searched, read.rollouts, at_once)
        found = {cell.name: result for cell, place in searched if (result := cell.finished(place)) is not None}
        places = _placed(tuned(cells, read.tune, found), folder)
    failures |= run_cells([p for p in places if p[1] not in failures], read.rollouts, at_once)
    write_comparison(folder, read, places, searched, failures)


def _placed(cells: list[Cell], folder: Path) -> list[tuple[Cell, Path]]:
    return [(cell, folder / "cells" / cell.name) for cell in cells]


def chosen(cells: list[Cell], only: list[str]) -> list[Cell]:
    """The cells that are asked for.

    Raises:
        InputError: if a word is not `NAME=VALUE`, or if no cell has it.
    """
    wanted: dict[str, set[str]] = {}
    for word in only:
        name, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"`only` must be NAME=VALUE, as in seed=0, got {word!r}.")
        if not any(cell.short_labels.get(name) == value for cell in cells):
            there = sorted({f"{key}={label}" for cell in cells for key, label in cell.short_labels.items()})
            raise InputError(f"`only` has {word!r}, but the cells have {', '.join(there)}.")
        wanted.setdefault(name, set()).add(value)
    kept = [cell for cell in cells if all(cell.short_labels[name] in values for name, values in wanted.items())]
    if not kept:
        raise InputError(f"no cell has all of {', '.join(only)}; leave some of `only` out.")
    return kept


def _check(cell: Cell, folder: Path, grid: Grid) -> None:
    """Makes sure that `lenvm fit` takes the options of a cell, before any cell runs."""
    with (
        command_line("fit", [*cell.fit(folder).arguments, "--print_config"]),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            LenvmCLI()
        except SystemExit as stop:
            if stop.code not in (0, None):
                raise
        except InputError as error:
            raise InputError(f"{grid.file}: the cell {cell.name} cannot be run: {error}") from error

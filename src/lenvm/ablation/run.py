"""Runs the cells of a grid, several at once, and goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lenvm.ablation.cells import Cell, CellResult
from lenvm.ablation.commands import run_command
from lenvm.ablation.grid import Grid
from lenvm.errors import InputError


def run_grid(grids: dict[str, Grid], output: Path, jobs: int) -> dict[str, list[CellResult]]:
    """The results of all cells of some grids, in order; cells that are finished are not run again.

    A cell that fails does not stop the others.

    Args:
        grids: the grids by name; the cells of each go to a folder of that name.
        output: the folder of those folders.
        jobs: cells at once; CPU threads are divided among them.

    Raises:
        InputError: after all others have run, if a cell has failed.
    """
    places = {name: [(cell, output / name / cell.name) for cell in grid.cells()] for name, grid in grids.items()}
    recipes = dict.fromkeys(recipe for grid in grids.values() for recipe in grid.rollouts)
    failures = run_cells([place for found in places.values() for place in found], list(recipes), jobs)
    if failures:
        folder, error = next(iter(failures.items()))
        raise InputError(f"{len(failures)} cell(s) failed; the first: {folder.name}: {error}")
    results = {name: [cell.finished(folder) for cell, folder in cells] for name, cells in places.items()}
    return {name: [result for result in found if result is not None] for name, found in results.items()}


def run_cells(places: Sequence[tuple[Cell, Path]], rollouts: Sequence[Path], jobs: int) -> dict[Path, str]:
    """Runs the cells that are not finished, several at once.

    Args:
        places: the cells, each with its folder.
        rollouts: recipes of `lenvm rollout` to run first, if there is anything to do.
        jobs: cells at once; CPU threads are divided among them.

    Returns:
        What went wrong in cells that failed, by folder.

    Raises:
        InputError: if a folder holds a cell with other settings, or if the rollouts cannot be made.
    """
    if jobs < 1:
        raise InputError(f"`jobs` must be at least 1, got {jobs}.")
    todo = [(cell, folder) for cell, folder in places if cell.finished(folder) is None]
    if todo:
        for recipe in rollouts:
            run_command(["rollout", "--config", str(recipe)])
    threads = max((os.cpu_count() or 1) // jobs, 1)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    failures: dict[Path, str] = {}
    with Progress(*columns, TimeRemainingColumn()) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("Fitting the cells", total=len(places), completed=len(places) - len(todo))
        running = {pool.submit(cell.run, folder, threads): folder for cell, folder in todo}
        try:
            for done in as_completed(running):
                if (error := done.exception()) is not None:
                    if not isinstance(error, InputError):
                        raise error
                    failures[running[done]] = str(error)
                progress.advance(bar)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failures

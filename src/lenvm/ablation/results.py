"""The comparison that a grid leaves: a table, all metrics, a figure, verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from lenvm.ablation.cells import Cell, CellResult, logged
from lenvm.ablation.claims import judge
from lenvm.ablation.collect import Row, rows_of, series_of
from lenvm.ablation.grid import Grid
from lenvm.report.ablation_plots import TrainingCurve, over_training
from lenvm.report.results import ResultFolder, markdown_table, terminal_table


def write_comparison(
    output: Path,
    grid: Grid,
    places: Sequence[tuple[Cell, Path]],
    searched: Sequence[tuple[Cell, Path]],
    failures: Mapping[Path, str],
) -> None:
    """Writes metrics.parquet, summary.json, table.md and the figure; prints the table and the verdicts.

    Args:
        output: the folder.
        grid: the grid.
        places: its cells, each with its folder.
        searched: cells of the search in front of it; their metrics are kept, and they are not compared.
        failures: what went wrong in cells that failed, by folder.
    """
    found = {cell.name: result for cell, place in places if (result := cell.finished(place)) is not None}
    broken = {cell.name: failures[place] for cell, place in places if place in failures}
    rows = rows_of([cell for cell, _ in places], found, broken, grid.metrics)
    verdicts = _verdicts(grid, [cell for cell, _ in places], found)
    folder = ResultFolder(output, "ablation")
    if found:
        tried = {cell.name: result for cell, place in searched if (result := cell.finished(place)) is not None}
        folder.write_rows("metrics", series_of({**tried, **found}))
    folder.write_summary(
        {
            "cells": {name: result.metrics for name, result in found.items()},
            "failed": broken,
            "claims": verdicts,
        }
    )
    options = [*grid.axes, *([] if grid.tune is None else [grid.tune.option])]
    columns = [*(key.rpartition(".")[2] for key in options), *grid.metrics]
    cells = [[*row.labels, *(row.shown(metric) for metric in grid.metrics)] for row in rows]
    folder.write_table(markdown_table(columns, cells) + _listed(verdicts))
    folder.write_figures({"over_training": _figure(grid, rows, places, found)})
    Console().print(terminal_table(grid.file.stem, columns, cells))
    for verdict in verdicts:
        print(f"{verdict['verdict']}: {verdict['claim']}")
    for name, error in broken.items():
        print(f"{name} failed: {error}")
    folder.finish("cells/")


def _verdicts(grid: Grid, cells: Sequence[Cell], found: Mapping[str, CellResult]) -> list[dict[str, Any]]:
    """The claims of which every value is among the cells, compared seed by seed; a cell that failed has no number."""
    verdicts = []
    for claim in grid.claims:
        left_out = {claim.axis, *([] if grid.tune is None else [grid.tune.option])}
        runs: dict[str, dict[tuple[tuple[str, str], ...], float]] = {label: {} for label in (claim.better, *claim.than)}
        for cell in cells:
            if (label := cell.labels[claim.axis]) in runs:
                measured = found[cell.name].metrics if cell.name in found else {}
                runs[label][_others(cell, left_out)] = measured.get(claim.metric, math.nan)
        # only what has been run with every value can be compared
        if shared := sorted(set.intersection(*(set(run) for run in runs.values()))):
            verdicts.append(judge(claim, {label: [run[other] for other in shared] for label, run in runs.items()}))
    return verdicts


def _others(cell: Cell, left_out: set[str]) -> tuple[tuple[str, str], ...]:
    """What distinguishes a cell from others, but for some options."""
    labels = {option: label for option, label in cell.labels.items() if option not in left_out}
    return tuple(sorted({**labels, "seed": str(cell.seed)}.items()))


def _listed(verdicts: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"\n- {verdict['claim']}: **{verdict['verdict']}**" for verdict in verdicts)


def _figure(
    grid: Grid, rows: Sequence[Row], places: Sequence[tuple[Cell, Path]], found: Mapping[str, CellResult]
) -> Figure:
    metric, curves = grid.metrics[0], []
    for row in rows:
        runs = []
        for cell, folder in places:
            if tuple(cell.labels.values()) == row.labels and cell.name in found:
                runs.append([(step, value) for name, step, value in logged(folder) if name == metric])
        curves.append(TrainingCurve(", ".join(row.labels), [run for run in runs if run]))
    return over_training(curves, ylabel=metric)

"""The comparison that a grid leaves: a table, all metrics, a figure, verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lenvm.ablation.cells import Cell, CellResult
from lenvm.ablation.claims import judge
from lenvm.ablation.collect import Row, logged, rows_of, series_of
from lenvm.ablation.grid import Grid
from lenvm.report.ablation_plots import TrainingCurve, over_training
from lenvm.report.results import ResultFolder, markdown_table


def write_comparison(
    output: Path, grid: Grid, places: Sequence[tuple[Cell, Path]], failures: Mapping[Path, str]
) -> None:
    """Writes metrics.parquet, summary.json, table.md and the figure; prints the table and the verdicts.

    Args:
        output: the folder.
        grid: the grid.
        places: its cells, each with its folder.
        failures: what went wrong in cells that failed, by folder.
    """
    found = {cell.name: result for cell, place in places if (result := cell.finished(place)) is not None}
    broken = {cell.name: failures[place] for cell, place in places if place in failures}
    rows = rows_of([cell for cell, _ in places], found, broken, grid.metrics)
    verdicts = _verdicts(grid, found)
    folder = ResultFolder(output, "ablation")
    if found:
        folder.write_rows("metrics", series_of(found))
    folder.write_summary(
        {
            "cells": {name: result.metrics for name, result in found.items()},
            "failed": broken,
            "claims": verdicts,
        }
    )
    columns = [*(key.rpartition(".")[2] for key in grid.axes), *grid.metrics]
    cells = [[*row.labels, *(row.shown(metric) for metric in grid.metrics)] for row in rows]
    folder.write_table(markdown_table(columns, cells) + _listed(verdicts))
    folder.write_figures({"over_training": _figure(grid, rows, places, found)})
    table = Table(*columns, title=grid.file.stem)
    for cell in cells:
        table.add_row(*cell)
    Console().print(table)
    for verdict in verdicts:
        print(f"{verdict['verdict']}: {verdict['claim']}")
    for name, error in broken.items():
        print(f"{name} failed: {error}")
    folder.finish("cells/")


def _verdicts(grid: Grid, found: Mapping[str, CellResult]) -> list[dict[str, Any]]:
    """The claims of which every value has been run, by the means over all other axes, seed by seed."""
    verdicts = []
    for claim in grid.claims:
        labels = (claim.better, *claim.than)
        runs = {label: [r for r in found.values() if r.cell.labels[claim.axis] == label] for label in labels}
        # only what has been run with every value can be compared
        shared = set.intersection(*({_others(r.cell, claim.axis) for r in results} for results in runs.values()))
        if shared:
            metric = {
                label: [
                    next(r for r in results if _others(r.cell, claim.axis) == other).metrics.get(claim.metric, math.nan)
                    for other in sorted(shared)
                ]
                for label, results in runs.items()
            }
            verdicts.append(judge(claim, metric))
    return verdicts


def _others(cell: Cell, axis: str) -> tuple[tuple[str, str], ...]:
    """What distinguishes a cell from others with the same value on an axis."""
    return tuple(sorted({**{k: v for k, v in cell.labels.items() if k != axis}, "seed": str(cell.seed)}.items()))


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

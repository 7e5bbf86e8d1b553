"""What the cells of a grid have measured, as one table of rows and one of means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lenvm.ablation.cells import Cell, CellResult, logged

Labels = tuple[str, ...]
_DIVERGED = "the loss became"
"""How `lenvm fit` ends where the loss is no number any more."""


class Row(NamedTuple):
    """One combination of values, over its seeds.

    Attributes:
        labels: the label of each axis, in the order of the grid.
        metrics: of each metric, its last value in every seed; NaN where a cell failed, diverged or did not log it.
        failed: what went wrong in the cells that failed.
    """

    labels: Labels
    metrics: Mapping[str, list[float]]
    failed: list[str]

    def shown(self, metric: str) -> str:
        """Mean and standard deviation over seeds, or what kept them from being a number."""
        values = [value for value in self.metrics[metric] if math.isfinite(value)]
        if len(values) < len(self.metrics[metric]):
            lost = len(self.metrics[metric]) - len(values)
            broken = sum(_DIVERGED not in error for error in self.failed)
            word = "failed" if broken == lost else "diverged"
            return word if not values else f"{_mean(values)} ({word}: {lost} of {len(self.metrics[metric])})"
        return _mean(values)


def rows_of(
    cells: Sequence[Cell], results: Mapping[str, CellResult], failures: Mapping[str, str], metrics: Sequence[str]
) -> list[Row]:
    """A row for every combination of values, in the order of the cells.

    Args:
        cells: the cells.
        results: what those that finished have measured, by name.
        failures: what went wrong in the others, by name.
        metrics: what they logged.
    """
    groups: dict[Labels, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.labels.values()), []).append(cell)
    rows = []
    for labels, members in groups.items():
        found = [results[cell.name].metrics if cell.name in results else {} for cell in members]
        values = {metric: [measured.get(metric, math.nan) for measured in found] for metric in metrics}
        rows.append(Row(labels, values, [failures[cell.name] for cell in members if cell.name in failures]))
    return rows


def series_of(results: Mapping[str, CellResult]) -> pa.Table:
    """Every value that the cells have logged: cell, seed, a column for each axis, metric, step and value."""
    columns: dict[str, list[object]] = {}
    for name, result in results.items():
        facts = {"cell": name, "seed": result.cell.seed, **result.cell.labels, "parameters": result.parameters}
        for metric, step, value in logged(result.folder):
            for key, fact in {**facts, "metric": metric, "step": step, "value": value}.items():
                columns.setdefault(key, []).append(fact)
    return pa.table(columns)


def _mean(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.4g}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.2g}"

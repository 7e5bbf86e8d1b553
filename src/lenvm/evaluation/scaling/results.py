"""Scaling curves as a table, a summary and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from rich.console import Console

from lenvm.report.results import ResultFolder, markdown_table, terminal_table
from lenvm.report.scaling_plots import ScalingCurve, scaling_curves

_COLUMNS = ["axis", "value", "size", "loss", "sd", "fits"]


class Axis(NamedTuple):
    """What one grid has varied.

    Attributes:
        name: what it is, such as `prompts`.
        unit: what its numbers count.
        points: by the label of each value, ascending: the number, and the loss of every seed.
    """

    name: str
    unit: str
    points: Mapping[str, tuple[float, list[float]]]

    @property
    def means(self) -> list[float]:
        """Mean loss over seeds at each value."""
        return [float(np.mean(losses)) for _, losses in self.points.values()]

    def summary(self) -> dict[str, Any]:
        """Its figures, as JSON."""
        return {
            "unit": self.unit,
            "points": [
                {"value": label, "size": x, "loss": float(np.mean(losses)), "losses": losses}
                for label, (x, losses) in self.points.items()
            ],
            "falls": self.means[-1] < self.means[0],
            "falls_everywhere": all(after < before for before, after in pairwise(self.means)),
            "slope": self.slope,
        }

    @property
    def slope(self) -> float:
        """Exponent of the power law through the means, by least squares of the logarithms; negative if they fall."""
        sizes = np.log([x for x, _ in self.points.values()])
        return float(np.polyfit(sizes, np.log(self.means), 1)[0])


def write_scaling(output: Path, axes: Sequence[Axis], metric: str) -> None:
    """Writes cells.parquet, summary.json, table.md and the figure; prints the table."""
    folder = ResultFolder(output, "scaling")
    cells = [
        {"axis": axis.name, "unit": axis.unit, "value": label, "size": x, "run": number, metric: loss}
        for axis in axes
        for label, (x, losses) in axis.points.items()
        for number, loss in enumerate(losses)
    ]
    folder.write_rows("cells", pa.Table.from_pylist(cells))
    folder.write_summary({"metric": metric, **{axis.name: axis.summary() for axis in axes}})
    rows = [
        [axis.name, label, f"{x:,.0f}", f"{np.mean(losses):.5f}", _deviation(losses), str(len(losses))]
        for axis in axes
        for label, (x, losses) in axis.points.items()
    ]
    folder.write_table(markdown_table(_COLUMNS, rows))
    curves = [
        ScalingCurve(
            a.name.replace("_", " "), a.unit, [x for x, _ in a.points.values()], [y for _, y in a.points.values()]
        )
        for a in axes
    ]
    folder.write_figures({"scaling": scaling_curves(curves, ylabel=f"validation loss ({metric})")})
    Console().print(terminal_table(f"Scaling: {metric}", _COLUMNS, rows))
    for axis in axes:
        how = "falls at every step" if axis.summary()["falls_everywhere"] else "falls, but not at every step"
        print(f"{axis.name}: the loss {how if axis.summary()['falls'] else 'does not fall'} (slope {axis.slope:+.3f}).")
    folder.finish("cells/")


def _deviation(losses: Sequence[float]) -> str:
    return f"{np.std(losses, ddof=1):.5f}" if len(losses) > 1 else ""

"""A metric over training, one line for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from lenvm.report.style import COLORS, new_figure


class TrainingCurve(NamedTuple):
    """A metric of one variant, in runs with different seeds.

    Attributes:
        name: what the variant is.
        runs: of every seed the step and the value, as it was logged.
    """

    name: str
    runs: Sequence[Sequence[tuple[int, float]]]


def over_training(curves: Sequence[TrainingCurve], *, ylabel: str) -> Figure:
    """A line for every variant through the mean over seeds, and a band from the least to the largest."""
    figure, axes = new_figure(6.4, 4.0)
    for i, curve in enumerate(curves):
        steps = sorted({step for run in curve.runs for step, _ in run})
        values = [[value for run in curve.runs for at, value in run if at == step] for step in steps]
        color = COLORS[i % len(COLORS)]
        axes.plot(
            steps,
            [float(np.mean(v)) for v in values],
            color=color,
            marker="o",
            markersize=4,
            label=curve.name or "base",
        )
        if any(len(v) > 1 for v in values):
            low, high = [min(v) for v in values], [max(v) for v in values]
            axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="optimizer steps", ylabel=ylabel)
    if curves:
        axes.legend(frameon=False, fontsize=8)
    return figure

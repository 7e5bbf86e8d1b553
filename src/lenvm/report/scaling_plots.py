"""Loss against size, as the paper's Figure 3 shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from lenvm.report.style import BLUE, new_panels


class ScalingCurve(NamedTuple):
    """Loss at growing sizes.

    Attributes:
        title: what grows.
        unit: what the sizes count.
        sizes: ascending.
        losses: at each size, that of every seed.
    """

    title: str
    unit: str
    sizes: Sequence[float]
    losses: Sequence[Sequence[float]]


def scaling_curves(curves: Sequence[ScalingCurve], *, ylabel: str) -> Figure:
    """A panel per curve on a logarithmic axis of sizes; the line goes through means, dots are seeds."""
    figure, panels = new_panels(3.6 * len(curves), 3.2, len(curves))
    panels[0].set_ylabel(ylabel)
    for axes, curve in zip(panels, curves, strict=True):
        axes.plot(curve.sizes, [float(np.mean(y)) for y in curve.losses], color=BLUE, marker="o", markersize=5)
        for x, losses in zip(curve.sizes, curve.losses, strict=True):
            if len(losses) > 1:
                axes.scatter([x] * len(losses), losses, s=10, color=BLUE, alpha=0.5)
        axes.set(xscale="log", xlabel=curve.unit, title=curve.title)
        axes.set_xticks(list(curve.sizes))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
    return figure


def _short(x: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if x >= size:
            divisor = 1e3 if letter == "k" else size
            return f"{x / divisor:.3g}{letter}"
    return f"{x:g}"

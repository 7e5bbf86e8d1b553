"""What all figures look like."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GRAY = "#2f6fb2", "#d9822b", "#8a8f98"
COLORS = (BLUE, ORANGE, "#3d9970", "#a64d79", "#7a6ff0", GRAY)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size in inches, with one panel; it needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, styled(figure.add_subplot())


def styled(axes: Axes) -> Axes:
    """The panel, with a light grid and without a frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return axes

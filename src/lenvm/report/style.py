"""What all figures look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

BLUE, ORANGE, GRAY = "#2f6fb2", "#d9822b", "#8a8f98"
COLORS = (BLUE, ORANGE, "#3d9970", "#a64d79", "#7a6ff0", "#b8a000", "#3fb8c4", "#8c564b")

_BESIDE = [(side, 9 * up) for up in (0, 1, -1, 2, -2, 3, -3, 4, -4) for side in (1, -1)]
"""Where labels may stand, from the best place to the worst: side of the point, and height above it."""
_ALIGNED = {-1: "right", 0: "center", 1: "left"}


class LabelledPoint(NamedTuple):
    """One method in a plane of two measures.

    Attributes:
        label: name of the method.
        x: measure on the horizontal axis.
        y: measure on the vertical axis.
    """

    label: str
    x: float
    y: float


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size in inches, with one panel; it needs no display."""
    figure, panels = new_panels(width, height, 1)
    return figure, panels[0]


def new_panels(width: float, height: float, count: int) -> tuple[Figure, list[Axes]]:
    """A figure of this size in inches, with so many panels side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [styled(figure.add_subplot(1, count, place)) for place in range(1, count + 1)]


def styled(axes: Axes) -> Axes:
    """The panel, with a light grid and without a frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return axes


def write_labels(
    figure: Figure, axes: Axes, points: Sequence[LabelledPoint], places: Sequence[tuple[int, int]] = _BESIDE
) -> None:
    """Writes each point's label near it, where no other label or point is.

    Args:
        figure: the figure.
        axes: its axes, with everything drawn that decides their limits.
        points: the points; one without a label only takes its place.
        places: where labels may stand, from the best place to the worst: side of the point, and height above it.
    """
    figure.draw_without_rendering()  # before, nothing has a place
    dots = [axes.transData.transform((point.x, point.y)) for point in points]
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in dots]
    frame = axes.get_window_extent()
    for point in points:
        if not point.label:
            continue
        text = axes.annotate(
            point.label,
            (point.x, point.y),
            xytext=(0, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            zorder=4,
        )
        boxes = []
        for side, up in places:
            text.set(position=(7 * side, up), horizontalalignment=_ALIGNED[side])
            box = text.get_window_extent()
            outside = not (frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1))
            boxes.append((sum(box.overlaps(other) for other in taken) + 2 * outside, side, up, box))
        _, side, up, box = min(boxes, key=lambda found: found[0])
        text.set(position=(7 * side, up), horizontalalignment=_ALIGNED[side])
        taken.append(box)
        if side and up:
            line = {"arrowstyle": "-", "linewidth": 0.4, "color": GRAY, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (point.x, point.y), xytext=(7 * side, up), textcoords="offset points", arrowprops=line)

"""Figures of LIFEBench: length scores by target, and by language and category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from lenvm.report.style import COLORS, GRAY

_MARKERS = "osD^vPX*"
_DARK = 55.0


class ScoreByTarget(NamedTuple):
    """The length score of one method under one constraint.

    Attributes:
        method: its name.
        targets: the lengths that were asked for.
        scores: the mean score at each.
        intervals: low and high end of each mean.
    """

    method: str
    targets: Sequence[int]
    scores: Sequence[float]
    intervals: Sequence[tuple[float, float]]


def score_by_target(panels: Mapping[str, Sequence[ScoreByTarget]], *, unit: str, reference: str | None) -> Figure:
    """Length score against the target on a logarithmic axis: a panel per constraint, a line per method.

    Args:
        panels: the methods under each constraint, by its title.
        unit: what the targets count.
        reference: the method that is drawn gray and dashed.
    """
    methods = list(dict.fromkeys(line.method for lines in panels.values() for line in lines))
    figure = Figure(figsize=(4.1 * len(panels) + 0.4, 3.9 + 0.22 * -(-len(methods) // 3)), layout="constrained")
    FigureCanvasAgg(figure)
    colored = [name for name in methods if name != reference]
    first = None
    for number, (title, lines) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), number, sharey=first)
        first = first or axes
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        for place, line in enumerate(lines):
            alone = line.method == reference
            turn = 0 if alone else colored.index(line.method)
            color = GRAY if alone else COLORS[turn % len(COLORS)]
            # a little aside, so that intervals at one target do not cover each other
            aside = 1.02 ** (place - (len(lines) - 1) / 2)
            x, y = np.asarray(line.targets) * aside, np.asarray(line.scores)
            low, high = (np.asarray(ends) for ends in zip(*line.intervals, strict=True))
            axes.errorbar(
                x, y, yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)], color=color, label=line.method,
                linestyle="--" if alone else "-", marker="." if alone else _MARKERS[turn % len(_MARKERS)],
                markersize=4.5, linewidth=1.4, elinewidth=0.8, zorder=2 if alone else 3,
            )  # fmt: skip
        targets = sorted({target for line in lines for target in line.targets})
        axes.set(title=title, xlabel=f"length asked for ({unit})", ylim=(-3, 105), xscale="log")
        axes.xaxis.set_major_locator(FixedLocator(targets))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_ylabel("length score" if number == 1 else "")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False, fontsize=8)
    return figure


def score_map(panels: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Length scores of methods (rows) on groups of items (columns), a panel per constraint, the number in each cell.

    Args:
        panels: by the constraint's title and the method's name, the score of each group; all have the same groups.
    """
    methods, groups = list(next(iter(panels.values()))), list(next(iter(next(iter(panels.values())).values())))
    size = (0.62 * len(groups) * len(panels) + 2.6, 0.34 * len(methods) + 1.3)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, rows) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), number)
        scores = np.array([[rows[method][group] for group in groups] for method in methods])
        axes.imshow(scores, cmap="Blues", vmin=0, vmax=115, aspect="auto")
        for (row, column), score in np.ndenumerate(scores):
            color = "white" if score > _DARK else "black"
            axes.text(column, row, f"{score:.0f}", ha="center", va="center", fontsize=8, color=color)
        axes.set_xticks(range(len(groups)), groups, rotation=35, ha="right", fontsize=8)
        axes.set_yticks(range(len(methods)), methods if number == 1 else [""] * len(methods), fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure

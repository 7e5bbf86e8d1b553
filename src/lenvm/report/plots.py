"""Figures, one function each; every function returns a matplotlib figure that the caller saves and closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike, NDArray

_BLUE, _ORANGE, _GRAY = "#2f6fb2", "#d9822b", "#8a8f98"
_DOMAIN_COLORS = (_BLUE, _ORANGE, "#3d9970", "#a64d79", "#7a6ff0", _GRAY)
_WIDE_RANGE, _NEARLY_NOTHING = 5.0, 0.02
_BESIDE = [(side, 9 * up) for up in (0, 1, -1, 2, -2, 3, -3, 4, -4) for side in (1, -1)]
_ABOVE = [(0, up) for up in (10, 20, -10, 30, -20)]
"""Where labels may stand, from the best place to the worst: side of the point, and height above it."""
_ALIGNED = {-1: "right", 0: "center", 1: "left"}


class ValueCurve(NamedTuple):
    """The predicted remaining length along one completion.

    Attributes:
        title: what is being completed.
        predicted: predicted remaining tokens at t = 0, 1, ...; (T,).
        remaining: true remaining tokens at the same states; (T,).
    """

    title: str
    predicted: NDArray[np.float64]
    remaining: NDArray[np.float64]


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


class AccuracyPoint(NamedTuple):
    """Mean length and accuracy of one way of writing.

    Attributes:
        label: what it is; short, it stands beside the point.
        tokens: mean tokens per completion.
        accuracy: share of right completions.
        tokens_interval: low and high end of the mean length.
        accuracy_interval: low and high end of the accuracy.
    """

    label: str
    tokens: float
    accuracy: float
    tokens_interval: tuple[float, float]
    accuracy_interval: tuple[float, float]


def predicted_against_true(predicted: ArrayLike, true: ArrayLike, groups: Sequence[str], *, title: str = "") -> Figure:
    """A scatter plot of predicted against true length of prompts on logarithmic axes.

    Args:
        predicted: predicted completion lengths in tokens; (P,).
        true: return-consistent true lengths in tokens; (P,).
        groups: domain of each prompt; (P,).
        title: shown above the figure.
    """
    predicted, true = np.asarray(predicted, dtype=float), np.asarray(true, dtype=float)
    figure, axes = _new_figure(5.2, 5.0)
    low, high = (f(np.concatenate([predicted, true])) for f in (np.min, np.max))
    low, high = max(low, 0.5) / 1.2, high * 1.2
    axes.plot([low, high], [low, high], color=_GRAY, linewidth=1, linestyle="--", label="perfect", zorder=1)
    names = np.asarray(groups)
    for i, name in enumerate(sorted(set(groups))):
        here = names == name
        color = _DOMAIN_COLORS[i % len(_DOMAIN_COLORS)]
        axes.scatter(true[here], predicted[here], s=14, alpha=0.65, linewidths=0, color=color, label=name, zorder=2)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(low, high),
        ylim=(low, high),
        xlabel="true length (tokens, return-consistent)",
        ylabel="predicted length (tokens)",
        title=title,
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False)
    return figure


def value_curves(curves: Sequence[ValueCurve]) -> Figure:
    """Predicted and true remaining length along completions, one panel each."""
    columns = min(len(curves), 2)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(5.0 * columns, 2.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for i, curve in enumerate(curves, 1):
        axes = _styled(figure.add_subplot(rows, columns, i))
        axes.plot(curve.remaining, color=_GRAY, linestyle="--", linewidth=1.2, label="true")
        axes.plot(curve.predicted, color=_BLUE, linewidth=1.6, label="predicted")
        axes.set(
            xlabel="completion tokens written", ylabel="tokens to come", title=_shortened(curve.title), ylim=(0, None)
        )
        axes.legend(frameon=False)
    return figure


def error_by_position(errors: dict[str, Sequence[float]], positions: Sequence[str]) -> Figure:
    """Mean absolute error of the remaining length at relative positions of the completion, one line per predictor."""
    figure, axes = _new_figure(5.2, 3.4)
    for i, (name, values) in enumerate(errors.items()):
        axes.plot(positions, values, marker="o", color=(_BLUE, _GRAY, _ORANGE)[i % 3], label=name)
    axes.set(xlabel="share of the completion written (%)", ylabel="MAE (tokens)", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def error_bars(errors: dict[str, dict[str, float]], *, ylabel: str) -> Figure:
    """Grouped bars: for each domain (outer key) the error of each predictor (inner key)."""
    figure, axes = _new_figure(6.0, 3.4)
    predictors = list(next(iter(errors.values())))
    width = 0.8 / len(predictors)
    for i, predictor in enumerate(predictors):
        at = np.arange(len(errors)) + (i - (len(predictors) - 1) / 2) * width
        heights = [by_predictor[predictor] for by_predictor in errors.values()]
        bars = axes.bar(at, heights, width * 0.92, color=_DOMAIN_COLORS[i % len(_DOMAIN_COLORS)], label=predictor)
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
    axes.set_xticks(np.arange(len(errors)), list(errors))
    axes.set(ylabel=ylabel)
    axes.margins(y=0.15)
    axes.legend(frameon=False, fontsize=8, ncols=len(predictors), loc="upper center", bbox_to_anchor=(0.5, 1.14))
    return figure


def length_frontier(panels: Mapping[str, Sequence[LabelledPoint]], *, reference: str | None, xlabel: str) -> Figure:
    """Length score against what it costs: the better method is further up and further left.

    Args:
        panels: the methods of each panel, by its title.
        reference: label of the method whose cost a dashed line marks.
        xlabel: what the cost is.
    """
    figure = Figure(figsize=(6.4 * len(panels), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for i, (title, points) in enumerate(panels.items(), 1):
        axes = _styled(figure.add_subplot(1, len(panels), i))
        for number, point in enumerate(points):
            color = _GRAY if point.label == reference else _DOMAIN_COLORS[number % (len(_DOMAIN_COLORS) - 1)]
            axes.scatter(point.x, point.y, s=34, color=color, zorder=3)
            if point.label == reference:
                axes.axvline(point.x, color=_GRAY, linewidth=1, linestyle="--", zorder=1)
        axes.set(xlabel=xlabel, ylabel="length score", title=title, ylim=(-3, 106))
        axes.margins(x=0.12)
        worst, best = (f((point.x for point in points), default=0.0) for f in (max, min))
        if best > _NEARLY_NOTHING and worst / best > _WIDE_RANGE:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
        _write_labels(figure, axes, points)
    return figure


def length_against_accuracy(
    curves: Mapping[str, Sequence[AccuracyPoint]],
    others: Sequence[AccuracyPoint],
    *,
    full: AccuracyPoint,
    wanted: float,
) -> Figure:
    """Mean length against accuracy with confidence intervals.

    Args:
        curves: ways with a strength, by name; each is a line through its points.
        others: ways that are one point.
        full: plain sampling.
        wanted: share of the plain accuracy that a dotted line marks.
    """
    figure, axes = _new_figure(7.2, 4.6)
    axes.axhline(wanted * full.accuracy, color=_GRAY, linewidth=1, linestyle=":", zorder=1)
    colors = iter(_DOMAIN_COLORS * (1 + len(curves) + len(others)))
    for name, points in curves.items():
        x, color = [p.tokens for p in points], next(colors)
        low, high = zip(*(p.accuracy_interval for p in points), strict=True)
        axes.plot(x, [p.accuracy for p in points], color=color, marker="o", markersize=4, label=name, zorder=3)
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    for point in (*others, full):
        reach = [
            [[middle - low], [high - middle]]
            for middle, (low, high) in (
                (point.tokens, point.tokens_interval),
                (point.accuracy, point.accuracy_interval),
            )
        ]
        color = "black" if point is full else next(colors)
        axes.errorbar(
            point.tokens, point.accuracy, xerr=reach[0], yerr=reach[1], color=color, label=point.label, marker="D",
            markersize=5, linestyle="none", elinewidth=0.8, zorder=4,
        )  # fmt: skip
    axes.set(xlabel="mean tokens per completion", ylabel="accuracy (Pass@1)", ylim=(-0.03, 1.12))
    labelled = [LabelledPoint(p.label, p.tokens, p.accuracy) for points in curves.values() for p in points]
    _write_labels(figure, axes, labelled, _ABOVE)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _write_labels(
    figure: Figure, axes: Axes, points: Sequence[LabelledPoint], places: Sequence[tuple[int, int]] = _BESIDE
) -> None:
    """Writes each point's label near it, where no other label or point is."""
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
            line = {"arrowstyle": "-", "linewidth": 0.4, "color": _GRAY, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (point.x, point.y), xytext=(7 * side, up), textcoords="offset points", arrowprops=line)


def _new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, _styled(figure.add_subplot())


def _styled(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return axes


def _shortened(text: str, length: int = 56) -> str:
    text = " ".join(text.split()).replace("$", r"\$")
    return text if len(text) <= length else text[: length - 1] + "…"

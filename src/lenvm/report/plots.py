"""Figures, one function each; every function returns a matplotlib figure that the caller saves and closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike, NDArray

from lenvm.report.style import BLUE, COLORS, GRAY, ORANGE, LabelledPoint, new_figure, new_panels, styled, write_labels

_WIDE_RANGE, _NEARLY_NOTHING = 5.0, 0.02


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


def predicted_against_true(predicted: ArrayLike, true: ArrayLike, groups: Sequence[str], *, title: str = "") -> Figure:
    """A scatter plot of predicted against true length of prompts on logarithmic axes.

    Args:
        predicted: predicted completion lengths in tokens; (P,).
        true: return-consistent true lengths in tokens; (P,).
        groups: domain of each prompt; (P,).
        title: shown above the figure.
    """
    predicted, true = np.asarray(predicted, dtype=float), np.asarray(true, dtype=float)
    figure, axes = new_figure(5.2, 5.0)
    low, high = (f(np.concatenate([predicted, true])) for f in (np.min, np.max))
    low, high = max(low, 0.5) / 1.2, high * 1.2
    axes.plot([low, high], [low, high], color=GRAY, linewidth=1, linestyle="--", label="perfect", zorder=1)
    names = np.asarray(groups)
    for i, name in enumerate(sorted(set(groups))):
        here = names == name
        color = COLORS[i % len(COLORS)]
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
        axes = styled(figure.add_subplot(rows, columns, i))
        axes.plot(curve.remaining, color=GRAY, linestyle="--", linewidth=1.2, label="true")
        axes.plot(curve.predicted, color=BLUE, linewidth=1.6, label="predicted")
        axes.set(
            xlabel="completion tokens written", ylabel="tokens to come", title=_shortened(curve.title), ylim=(0, None)
        )
        axes.legend(frameon=False)
    return figure


def error_by_position(errors: dict[str, Sequence[float]], positions: Sequence[str]) -> Figure:
    """Mean absolute error of the remaining length at relative positions of the completion, one line per predictor."""
    figure, axes = new_figure(5.2, 3.4)
    for i, (name, values) in enumerate(errors.items()):
        axes.plot(positions, values, marker="o", color=(BLUE, GRAY, ORANGE)[i % 3], label=name)
    axes.set(xlabel="share of the completion written (%)", ylabel="MAE (tokens)", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def error_bars(errors: dict[str, dict[str, float]], *, ylabel: str) -> Figure:
    """Grouped bars: for each domain (outer key) the error of each predictor (inner key)."""
    figure, axes = new_figure(6.0, 3.4)
    predictors = list(next(iter(errors.values())))
    width = 0.8 / len(predictors)
    for i, predictor in enumerate(predictors):
        at = np.arange(len(errors)) + (i - (len(predictors) - 1) / 2) * width
        heights = [by_predictor[predictor] for by_predictor in errors.values()]
        bars = axes.bar(at, heights, width * 0.92, color=COLORS[i % len(COLORS)], label=predictor)
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
    figure, places = new_panels(6.4 * len(panels), 4.6, len(panels))
    for axes, (title, points) in zip(places, panels.items(), strict=True):
        for number, point in enumerate(points):
            color = GRAY if point.label == reference else COLORS[number % len(COLORS)]
            axes.scatter(point.x, point.y, s=34, color=color, zorder=3)
            if point.label == reference:
                axes.axvline(point.x, color=GRAY, linewidth=1, linestyle="--", zorder=1)
        axes.set(xlabel=xlabel, ylabel="length score", title=title, ylim=(-3, 106))
        axes.margins(x=0.12)
        worst, best = (f((point.x for point in points), default=0.0) for f in (max, min))
        if best > _NEARLY_NOTHING and worst / best > _WIDE_RANGE:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
        write_labels(figure, axes, points)
    return figure


def _shortened(text: str, length: int = 56) -> str:
    text = " ".join(text.split()).replace("$", r"\$")
    return text if len(text) <= length else text[: length - 1] + "…"

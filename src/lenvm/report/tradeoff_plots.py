"""Figures of right answers against the tokens they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, ScalarFormatter

from lenvm.report.style import COLORS, GRAY, LabelledPoint, new_figure, write_labels

_LOWEST_TOP = 0.05
_ABOVE = [(0, up) for up in (10, 20, -10, 30, -20)]


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


class ChanceCurve(NamedTuple):
    """Pass@k of one way of writing.

    Attributes:
        group: ways of one group have one colour.
        label: for the legend.
        ks: how many completions are drawn; (K,).
        chances: Pass@k; (K,).
        intervals: low and high end of each; (K,).
    """

    group: str
    label: str
    ks: Sequence[int]
    chances: Sequence[float]
    intervals: Sequence[tuple[float, float]]


def length_against_accuracy(
    curves: Mapping[str, Sequence[AccuracyPoint]],
    others: Sequence[AccuracyPoint],
    *,
    full: AccuracyPoint,
    kept: float,
    at: float,
) -> Figure:
    """Mean length against accuracy with confidence intervals; the upper axis has shares of plain sampling's length.

    Args:
        curves: ways with a strength, by name; each is a line through its points, from the shortest to the longest.
        others: ways that are one point.
        full: plain sampling.
        kept: share of the plain accuracy that a dotted line marks.
        at: share of the plain length that a dotted line marks.
    """
    figure, axes = new_figure(7.2, 4.8)
    for line, place in ((axes.axhline, kept * full.accuracy), (axes.axvline, at * full.tokens)):
        line(place, color=GRAY, linewidth=1, linestyle=":", zorder=1)
    colors = iter(COLORS * (1 + len(curves) + len(others)))
    for name, points in curves.items():
        points, color = sorted(points, key=lambda point: point.tokens), next(colors)
        x = [point.tokens for point in points]
        axes.plot(x, [p.accuracy for p in points], color=color, marker="o", markersize=4, label=name, zorder=3)
        low, high = zip(*(p.accuracy_interval for p in points), strict=True)
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
    drawn = [*(point for points in curves.values() for point in points), *others, full]
    axes.set(xlabel="mean tokens per completion", ylabel="accuracy (Pass@1)")
    _limit(axes, max(point.accuracy_interval[1] for point in drawn))
    shares = axes.secondary_xaxis(
        "top", functions=(partial(np.multiply, 1 / full.tokens), partial(np.multiply, full.tokens))
    )
    shares.xaxis.set_major_formatter(PercentFormatter(1.0))
    shares.set_xlabel("of plain tokens")
    shares.spines["top"].set_visible(False)
    labelled = [LabelledPoint(p.label, p.tokens, p.accuracy) for points in curves.values() for p in points]
    write_labels(figure, axes, labelled, _ABOVE)
    axes.legend(frameon=False, fontsize=8)
    return figure


def pass_at_k_curves(curves: Sequence[ChanceCurve]) -> Figure:
    """Pass@k over k with confidence intervals; curves of a group share a colour and differ in their lines.

    Args:
        curves: one per way of writing; the first is plain sampling, black.
    """
    figure, axes = new_figure(6.0, 4.2)
    colors = dict(zip(dict.fromkeys(curve.group for curve in curves), ("black", *COLORS), strict=False))
    drawn = dict.fromkeys(colors, 0)
    for curve in curves:
        color, line = colors[curve.group], ("-", "--", ":")[drawn[curve.group] % 3]
        drawn[curve.group] += 1
        axes.plot(curve.ks, curve.chances, line, color=color, marker="o", markersize=4, label=curve.label)
        low, high = zip(*curve.intervals, strict=True)
        axes.fill_between(curve.ks, low, high, color=color, alpha=0.1, linewidth=0)
    axes.set(xlabel="k completions per prompt", ylabel="Pass@k", xscale="log")
    axes.xaxis.set_major_locator(FixedLocator(list(curves[0].ks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    _limit(axes, max(high for curve in curves for _, high in curve.intervals))
    axes.legend(frameon=False, fontsize=8)
    return figure


def _limit(axes: Axes, highest: float) -> None:
    """Accuracies from 0 to a bit above the highest: next to nothing right shall still be seen."""
    top = 1.12 * max(highest, _LOWEST_TOP)
    axes.set_ylim(-0.03 * top, top)

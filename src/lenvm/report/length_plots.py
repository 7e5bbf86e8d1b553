"""Figures of length distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from lenvm.report.style import COLORS, GRAY

_OVERALL = "black"
_SHOWN = len(COLORS)
_POINTS = 600
_MARKED = {"L50": 0.5, "L99": 0.01}
_SHARES = (1.0, 0.5, 0.25, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)


class LengthCurve(NamedTuple):
    """The lengths of one group of completions.

    Attributes:
        lengths: in tokens; (N,) with N > 0.
        l50: their median.
        l99: their 99th percentile.
    """

    lengths: NDArray[Any]
    l50: int
    l99: int


def length_survival(curves: Mapping[str, LengthCurve], overall: LengthCurve) -> Figure:
    """Share of the completions that are at least as long as a number of tokens, on logarithmic axes.

    A dot marks the median and the 99th percentile of each curve; the legend has the numbers.

    Args:
        curves: by domain; the eight with most completions are drawn.
        overall: all completions.
    """
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    largest = sorted(curves, key=lambda name: -len(curves[name].lengths))[:_SHOWN]
    for name, color in zip(largest, COLORS, strict=False):
        _draw(axes, _named(name, curves[name]), curves[name], color, width=1.6)
    _draw(axes, _named("all domains" if curves else "", overall), overall, _OVERALL, width=1.0 if curves else 1.6)
    longest, count = int(overall.lengths.max()), len(overall.lengths)
    lowest = 0.6 / max(count, 200)
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(lowest, 1.3),
        xlim=(max(int(overall.lengths.min()), 1) / 1.15, longest * 1.15),
        xlabel="completion length n (tokens, EOS counted)",
        ylabel="finished completions of n tokens or more (%)",
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(FixedLocator([share for share in _SHARES if share > lowest]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.25, linewidth=0.6)
    for share in _MARKED.values():
        axes.axhline(share, color=GRAY, linewidth=0.9, linestyle=":", zorder=1)
    hidden = len(curves) - len(largest)
    title = f"the {_SHOWN} largest of {len(curves)} domains" if hidden else None
    figure.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=2, title=title, title_fontsize=8)
    return figure


def _draw(axes: Axes, label: str, curve: LengthCurve, color: str, width: float) -> None:
    ordered = np.sort(curve.lengths)
    ends = max(int(ordered[0]), 1), int(ordered[-1])
    # the share falls just after a length that occurs, so each is drawn with its follower
    at = np.unique(np.concatenate([np.geomspace(*ends, _POINTS).round(), [curve.l50, curve.l99, *ends]]))
    at = np.unique(np.concatenate([at, at + 1]))
    share = 1.0 - np.searchsorted(ordered, at, side="left") / len(ordered)
    share[-1] = np.finfo(float).tiny  # nothing is longer than the longest, and a logarithmic axis has no 0
    axes.step(at, share, where="pre", color=color, linewidth=width, label=label, zorder=2)
    axes.plot([curve.l50, curve.l99], list(_MARKED.values()), "o", color=color, markersize=4.5, zorder=3)


def _named(name: str, curve: LengthCurve) -> str:
    marks = f"L50 {curve.l50:,}, L99 {curve.l99:,}"
    shown = name if len(name) <= 32 else name[:31] + "…"
    return f"{shown}: {marks}".replace("$", r"\$") if shown else marks

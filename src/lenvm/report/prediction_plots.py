"""Figures of how good predicted lengths and values are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, ScalarFormatter
from numpy.typing import ArrayLike

from lenvm.report.style import BLUE, COLORS, GRAY, new_figure, new_panels

_MARKERS = "DosXv^P"
_WIDE_RANGE = 8.0


def error_by_group(errors: Mapping[str, Mapping[str, float]], *, xlabel: str) -> Figure:
    """The error of each predictor as a dot, a line for each group of prompts; further left is better.

    Args:
        errors: group of prompts to predictor to error; all groups have the same predictors, the first in front.
        xlabel: what the error is.
    """
    groups, predictors = list(errors), list(next(iter(errors.values())))
    figure, axes = new_figure(7.2, 1.3 + 0.42 * len(groups))
    for i, predictor in reversed(list(enumerate(predictors))):
        axes.scatter(
            [errors[group][predictor] for group in groups],
            range(len(groups)),
            s=58 if i == 0 else 34,
            marker=_MARKERS[i % len(_MARKERS)],
            color=COLORS[i % len(COLORS)],
            linewidths=0,
            alpha=0.9,
            label=predictor,
            zorder=4 if i == 0 else 3,
        )
    values = [error for by_predictor in errors.values() for error in by_predictor.values()]
    axes.set_yticks(range(len(groups)), groups)
    axes.set(xlabel=xlabel, ylim=(len(groups) - 0.5, -0.5))
    if min(values) > 0 and max(values) / min(values) > _WIDE_RANGE:
        _logarithmic(axes, "x")
    else:
        axes.set_xlim(0, None)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside upper center", frameon=False, fontsize=8, ncols=4)
    return figure


def bias_by_length(lengths: ArrayLike, bias: ArrayLike, spread: ArrayLike, prompts: Sequence[int]) -> Figure:
    """Mean and standard deviation of the error in bins of the true length.

    Args:
        lengths: mean true length of each bin in tokens, ascending; (B,).
        bias: mean of predicted minus true length, in tokens; (B,).
        spread: its standard deviation; (B,).
        prompts: prompts in each bin; (B,).
    """
    lengths, bias, spread = (np.asarray(column, dtype=float) for column in (lengths, bias, spread))
    figure, axes = new_figure(5.8, 3.8)
    axes.axhline(0, color=GRAY, linewidth=1, linestyle="--", zorder=1)
    axes.fill_between(lengths, bias - spread, bias + spread, color=BLUE, alpha=0.16, linewidth=0)
    axes.errorbar(lengths, bias, yerr=spread, color=BLUE, marker="o", markersize=5, elinewidth=0.9, capsize=2)
    _logarithmic(axes, "x")
    counts = f"{min(prompts)}" if min(prompts) == max(prompts) else f"{min(prompts)} to {max(prompts)}"
    axes.set(
        xlabel=f"true length (tokens, return-consistent; {counts} prompts per bin)",
        ylabel="predicted minus true (tokens)",
        title="Bias, and one standard deviation to either side",
    )
    axes.title.set_fontsize(10)
    return figure


def reliability_diagram(predicted: ArrayLike, true: ArrayLike, *, expected_error: float) -> Figure:
    """Mean true horizon of states with similar predicted horizon; the diagonal is perfect.

    Args:
        predicted: mean predicted horizon of each bin; (B,).
        true: mean of the true `1 - gamma**n`; (B,).
        expected_error: expected calibration error.
    """
    figure, axes = new_figure(4.6, 4.4)
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle="--", label="perfect", zorder=1)
    axes.plot(predicted, true, color=BLUE, marker="o", markersize=5, label="all states, in bins of equal size")
    axes.set(
        xlabel=r"predicted horizon $u = -V$",
        ylabel=r"mean true horizon $1 - \gamma^{\,n}$",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
        title=f"expected calibration error {expected_error:.4f}",
    )
    axes.title.set_fontsize(10)
    axes.legend(frameon=False, fontsize=8)
    return figure


def midstream_error(tokens: Mapping[str, Mapping[str, float]], relative: Mapping[str, Mapping[str, float]]) -> Figure:
    """Errors of the remaining length while completions are written, in tokens and relative, a line per predictor.

    Args:
        tokens: predictor to position in percent to mean absolute error in tokens.
        relative: the same with mean relative errors.
    """
    figure, places = new_panels(8.8, 3.6, 2)
    panels = [(tokens, "MAE (tokens)"), (relative, "mean relative error")]
    for place, (axes, (errors, label)) in enumerate(zip(places, panels, strict=True), 1):
        for i, (name, by_position) in enumerate(errors.items()):
            last = i == len(errors) - 1
            axes.plot(
                [float(q) for q in by_position],
                list(by_position.values()),
                marker="o",
                markersize=4.5,
                color=GRAY if last and i else COLORS[i % len(COLORS)],
                label=name,
            )
        axes.set(xlabel="share of the completion written (%)", ylabel=label, ylim=(0, None))
        if place == 1:
            axes.legend(frameon=False, fontsize=8)
    return figure


def _logarithmic(axes: Axes, which: str) -> None:
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    subs = (1.0, 2.0, 5.0) if high / low > _WIDE_RANGE else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())

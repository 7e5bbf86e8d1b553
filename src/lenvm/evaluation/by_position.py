"""How the error of the remaining length falls while a completion is written, beside the best constant."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from lenvm.errors import InputError
from lenvm.evaluation.statistics import Floats
from lenvm.report.plots import error_by_position

MIDSTREAM = (0.0, 0.25, 0.5, 0.75, 0.9)
"""The shares of a completion after which its remaining length is judged."""
VALUE_MODEL, CONSTANT = "length value model", "best constant"


def errors_at(
    position: Floats, remaining: Floats, predicted: Mapping[str, Floats], constant: float, *, relative: bool = False
) -> dict[str, float]:
    """Mean error of the remaining length at some states, of each predictor and of a constant that counts down.

    Args:
        position: t of each state; (N,).
        remaining: true remaining length n > 0, in tokens; (N,).
        predicted: predicted remaining length of each predictor; (N,) each.
        constant: what the constant takes every completion's length to be; it says `max(constant - t, 1)`.
        relative: whether errors are divided by n; otherwise they are in tokens.
    """
    every = {**predicted, CONSTANT: np.maximum(constant - position, 1.0)}
    scale = remaining if relative else np.ones_like(remaining)
    return {name: float((np.abs(says - remaining) / scale).mean()) for name, says in every.items()}


def position_errors(
    position: Floats, remaining: Floats, predicted: Floats, positions: Sequence[float] = MIDSTREAM
) -> dict[str, dict[str, float]]:
    """Mean absolute error of the remaining length at relative positions, in tokens.

    The relative position q of a completion of L tokens is the state t = floor(q * L). The best constant takes every
    completion to be as long as the median of them and counts down: `max(median(L) - t, 1)`. Like the model, it sees t
    and not q; it is chosen on the very completions it is judged on.

    Args:
        position: t of each state; (N,).
        remaining: true remaining length; (N,).
        predicted: predicted remaining length; (N,).
        positions: the q to judge at.

    Returns:
        For the model and the best constant, the error at each q, named in percent: `0`, `25`, ...

    Raises:
        InputError: if there is no state at one of them.
    """
    length = position + remaining
    if not (position == 0).any():
        raise InputError("no state at 0% of a completion; are the predictions of whole completions?")
    constant = float(np.median(length[position == 0]))
    errors: dict[str, dict[str, float]] = {VALUE_MODEL: {}, CONSTANT: {}}
    for q in positions:
        here = position == np.floor(q * length)
        if not here.any():
            raise InputError(f"no state at {q:.0%} of a completion; are the predictions of whole completions?")
        found = errors_at(position[here], remaining[here], {VALUE_MODEL: predicted[here]}, constant)
        for name, error in found.items():
            errors[name][f"{q * 100:.0f}"] = error
    return errors


def by_position(predictions: Path, *, output: Path | None = None) -> None:
    """Error of the predicted remaining length at 0, 25, 50, 75 and 90 % of the completions.

    Args:
        predictions: the `predictions.parquet` that `lenvm predict` wrote.
        output: folder for summary.json and the figure; default: `by_position` beside the predictions.
    """
    if not predictions.is_file():
        raise InputError(f"expected the predictions.parquet of `lenvm predict`, found none at {predictions}.")
    output = output or predictions.parent / "by_position"
    wanted = ["position", "remaining", "predicted_remaining"]
    if missing := set(wanted) - set(pq.read_schema(predictions).names):
        raise InputError(f"{predictions} has no column {min(missing)!r}; expected what `lenvm predict` writes.")
    columns = pq.read_table(predictions, columns=wanted)
    errors = position_errors(*(column.to_numpy().astype(float) for column in columns.itercolumns()))
    output.mkdir(parents=True, exist_ok=True)
    (output / "summary.json").write_text(json.dumps({"length_mae": errors}, indent=2) + "\n", encoding="utf-8")
    positions = list(errors[VALUE_MODEL])
    figure = error_by_position({name: list(e.values()) for name, e in errors.items()}, positions)
    figure.savefig(output / "error_by_position.png", dpi=150)
    table = Table("predictor", *(f"{q} %" for q in positions), title="MAE of the remaining length, in tokens")
    for name, by_q in errors.items():
        table.add_row(name, *(f"{e:.1f}" for e in by_q.values()))
    Console().print(table)
    print(f"Done. Everything is under {output}: summary.json, error_by_position.png.")

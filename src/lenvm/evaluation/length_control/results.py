"""How the results of `length_control` are written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from matplotlib.figure import Figure
from rich.console import Console

from lenvm.evaluation.blocks import Block
from lenvm.evaluation.completion_rows import completion_columns
from lenvm.evaluation.length_control.measures import Cell, measured, named
from lenvm.evaluation.prompts import TaskPrompts
from lenvm.evaluation.quality import COLUMNS, Measures, correctness
from lenvm.metrics import Constraint, length_deviation, length_score
from lenvm.report.plots import length_frontier
from lenvm.report.results import ResultFolder, markdown_table, terminal_table
from lenvm.report.style import LabelledPoint

_FIGURES = {
    "length_score_against_nll": ("nll_per_token", "negative log-likelihood per token (nats)"),
    "length_score_against_end_nll": ("end_nll", "negative log-likelihood of the end of text (nats)"),
}
_PRINTED = ("score", "LD", "NLL/token", "x plain", "x keeping", "NLL of end", "accuracy")


def write_results(
    output: Path, cells: Sequence[Cell], prompts: TaskPrompts, constraint: Constraint, *, training_prompts_known: bool
) -> None:
    """Writes completions.parquet, summary.json, table.md and figures; prints the table."""
    results = measured(cells, prompts, constraint)
    folder = ResultFolder(output, "length_control")
    folder.write_rows("completions", _completions(cells, prompts, constraint))
    folder.write_summary(
        {
            "constraint": constraint,
            "training_prompts_known": training_prompts_known,
            "targets": {
                str(target): {"prompts": len(set(_first(cells, target).prompt.tolist())), "methods": by_method}
                for target, by_method in results.items()
            },
        }
    )
    folder.write_table(_markdown(results, constraint))
    folder.write_figures({name: _figure(cells, results, constraint, *of) for name, of in _FIGURES.items()})
    for target, rows in results.items():
        _print(_title(constraint, target), rows)
    folder.finish("blocks/")


def _figure(
    cells: Sequence[Cell], results: dict[int, dict[str, Measures]], constraint: Constraint, measure: str, label: str
) -> Figure:
    points = {
        _title(constraint, target): [
            LabelledPoint(method, found[measure], found["length_score"])
            for method, found in rows.items()
            if found[measure] is not None
        ]
        for target, rows in results.items()
    }
    return length_frontier(points, reference=named(cells, "plain"), xlabel=label)


def _first(cells: Sequence[Cell], target: int) -> Block:
    return next(cell.block for cell in cells if cell.target == target)


def _completions(cells: Sequence[Cell], prompts: TaskPrompts, constraint: Constraint) -> pa.Table:
    tables = []
    for cell in cells:
        block, size = cell.block, len(cell.block.length)
        lengths = torch.as_tensor(block.length)
        columns: dict[str, Any] = {
            "target": [cell.target] * size,
            "constraint": [constraint] * size,
            "method": [cell.method] * size,
            **completion_columns(block, prompts),
            "length_score": length_score(lengths, cell.target, constraint).numpy(),
            "length_deviation": length_deviation(lengths, cell.target).numpy(),
            "correct": pa.array(correctness(block, prompts), pa.bool_()),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _markdown(results: dict[int, dict[str, Measures]], constraint: Constraint) -> str:
    parts = []
    for target, rows in results.items():
        columns = _filled(tuple(COLUMNS), rows)
        cells = [[name, *_cells(found, columns)] for name, found in rows.items()]
        parts.append(f"**{_title(constraint, target)}**\n\n{markdown_table(['method', *columns], cells)}")
    return "\n".join(parts)


def _title(constraint: Constraint, target: int) -> str:
    return f"{constraint.replace('_', ' ')} {target} tokens"


def _print(title: str, rows: dict[str, Measures]) -> None:
    columns = _filled(_PRINTED, rows)
    Console().print(terminal_table(title, ["method", *columns], [[n, *_cells(m, columns)] for n, m in rows.items()]))


def _filled(columns: Sequence[str], rows: dict[str, Measures]) -> list[str]:
    """The columns in which any method has a number."""
    return [name for name in columns if any(found[COLUMNS[name][0]] is not None for found in rows.values())]


def _cells(found: Measures, columns: Sequence[str]) -> list[str]:
    wanted = [COLUMNS[column] for column in columns]
    return ["" if found[key] is None else format(found[key], kind) for key, kind in wanted]

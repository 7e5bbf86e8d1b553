"""How the results of `length_control` are written down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lenvm.evaluation.blocks import Block
from lenvm.evaluation.length_control.measures import Cell, measured, named
from lenvm.evaluation.prompts import TaskPrompts
from lenvm.evaluation.quality import Measures, correctness
from lenvm.metrics import Constraint, length_deviation, length_score
from lenvm.report.plots import length_frontier
from lenvm.report.results import ResultFolder
from lenvm.report.style import LabelledPoint

_FIGURES = {
    "length_score_against_nll": ("nll_per_token", "negative log-likelihood per token (nats)"),
    "length_score_against_end_nll": ("end_nll", "negative log-likelihood of the end of text (nats)"),
}
_PRINTED = ("length score", "LD", "NLL/token", "x plain", "x keeping", "NLL of end", "accuracy")

_COLUMNS: dict[str, tuple[str, str]] = {
    "length score": ("length_score", ".1f"),
    "mean abs LD": ("absolute_deviation", ".1%"),
    "LD": ("deviation", "+.1%"),
    "natural end": ("natural_end", ".1%"),
    "tokens": ("mean_length", ".1f"),
    "NLL/token": ("nll_per_token", ".3f"),
    "x plain": ("nll_ratio", ".3f"),
    "x keeping": ("nll_ratio_to_keeping", ".3f"),
    "NLL of end": ("end_nll", ".2f"),
    "distinct-1": ("distinct_1", ".3f"),
    "distinct-2": ("distinct_2", ".3f"),
    "distinct-3": ("distinct_3", ".3f"),
    "accuracy": ("accuracy", ".1%"),
    "ms/token": ("milliseconds_per_token", ".2f"),
}


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
        asked = [prompts.rollouts[p] for p in block.prompt]
        columns: dict[str, Any] = {
            "prompt": [p.prompt if isinstance(p.prompt, str) else json.dumps(p.prompt) for p in asked],
            "prompt_id": [p.prompt_id for p in asked],
            "domain": pa.array([p.domain for p in asked], pa.string()),
            "target": [cell.target] * size,
            "constraint": [constraint] * size,
            "method": [cell.method] * size,
            "sample": block.sample,
            "completion": block.text,
            "completion_ids": pa.array(block.ids, pa.list_(pa.int32())),
            "finish_reason": ["stop" if natural else "length" for natural in block.natural],
            "length": block.length,
            "nll": block.nll,
            "end_nll": block.end_nll,
            "length_score": length_score(lengths, cell.target, constraint).numpy(),
            "length_deviation": length_deviation(lengths, cell.target).numpy(),
            "correct": pa.array(correctness(block, prompts), pa.bool_()),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _markdown(results: dict[int, dict[str, Measures]], constraint: Constraint) -> str:
    lines = []
    for target, rows in results.items():
        lines += [f"**{_title(constraint, target)}**", ""]
        columns = _filled(tuple(_COLUMNS), rows)
        lines += ["| method | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
        lines += [f"| {name} | " + " | ".join(_cells(found, columns)) + " |" for name, found in rows.items()]
        lines.append("")
    return "\n".join(lines)


def _title(constraint: Constraint, target: int) -> str:
    return f"{constraint.replace('_', ' ')} {target} tokens"


def _print(title: str, rows: dict[str, Measures]) -> None:
    table = Table(title=title)
    table.add_column("method")
    columns = _filled(_PRINTED, rows)
    for column in columns:
        table.add_column(column, justify="right")
    for name, found in rows.items():
        table.add_row(name, *_cells(found, columns))
    Console().print(table)


def _filled(columns: Sequence[str], rows: dict[str, Measures]) -> list[str]:
    """The columns in which any method has a number."""
    return [name for name in columns if any(found[_COLUMNS[name][0]] is not None for found in rows.values())]


def _cells(found: Measures, columns: Sequence[str]) -> list[str]:
    wanted = [_COLUMNS[column] for column in columns]
    return ["" if found[key] is None else format(found[key], kind) for key, kind in wanted]

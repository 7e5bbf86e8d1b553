"""How the results of `lifebench` are written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure
from rich.console import Console

from lenvm.evaluation.completion_rows import completion_columns
from lenvm.evaluation.lifebench.items import requirement
from lenvm.evaluation.lifebench.measures import Judged, constraints_of, measured, tokens_per_unit
from lenvm.evaluation.lifebench.tables import NOTES, TITLES, as_markdown, overview
from lenvm.evaluation.methods import AbstractMethod, Plain
from lenvm.evaluation.prompts import TaskPrompts
from lenvm.evaluation.quality import Measures
from lenvm.report.lifebench_plots import ScoreByTarget, score_by_target, score_map
from lenvm.report.results import ResultFolder, terminal_table


def write_results(
    output: Path,
    judged: Sequence[Judged],
    methods: Mapping[str, AbstractMethod],
    prompts: TaskPrompts,
    given: Mapping[str, float],
    *,
    training_prompts_known: bool,
) -> None:
    """Writes completions.parquet, summary.json, table.md and figures; prints the paper's table.

    Args:
        output: the folder.
        judged: the completions of every method under every constraint.
        methods: the methods by name.
        prompts: what was asked.
        given: tokens per word or character that targets were turned into tokens with.
        training_prompts_known: whether all value models say what they were trained on.
    """
    plain = next((name for name, method in methods.items() if isinstance(method, Plain)), None)
    results = measured(judged, plain)
    asked = [requirement(rollout) for rollout in prompts.rollouts]
    unit = asked[0].unit
    items = {one.item: one.language for one in asked}
    summary: dict[str, Any] = {
        "note": NOTES[unit],
        "unit": unit,
        "constraints": constraints_of(results),
        "targets": sorted({one.target for one in asked}),
        "items": len(items),
        "items_by_language": _counted(items.values()),
        "prompts": len(asked),
        "too_long": prompts.too_long,
        "training_prompts_known": training_prompts_known,
        "methods": results,
    }
    if unit != "tokens":
        summary["tokens_per_unit"] = None if plain is None else tokens_per_unit(judged, plain)
        summary["tokens_per_unit_given"] = dict(given)
    folder = ResultFolder(output, "lifebench")
    folder.write_rows("completions", pa.concat_tables([_rows(one, prompts) for one in judged]))
    folder.write_summary(summary)
    folder.write_table(as_markdown(results, summary))
    folder.write_figures(_figures(results, summary, plain))
    columns, rows = overview(results)
    Console().print(terminal_table("LIFEBench", columns, rows))
    left_out = f"; {prompts.too_long} left out, too long for the largest target" if prompts.too_long else ""
    print(f"{len(items)} items{left_out}. {NOTES[unit]}")
    folder.finish("blocks/")


def _figures(results: dict[str, Measures], summary: Mapping[str, Any], plain: str | None) -> dict[str, Figure]:
    panels = {
        TITLES[constraint]: [
            ScoreByTarget(
                method,
                [int(target) for target in by_target],
                [cell["length_score"] for cell in by_target.values()],
                [tuple(cell["length_score_interval"]) for cell in by_target.values()],
            )
            for method, found in results.items()
            if (by_target := found["by_target"].get(constraint))
        ]
        for constraint in constraints_of(results)
    }
    figures = {"length_score_by_target": score_by_target(panels, unit=summary["unit"], reference=plain)}
    maps = {}
    for constraint in constraints_of(results):
        rows = {}
        for method, found in results.items():
            groups = {**found["by_language"].get(constraint, {}), **found["by_category"].get(constraint, {})}
            rows[method] = {name: cell["length_score"] for name, cell in groups.items()}
        maps[TITLES[constraint]] = rows
    if all(len(row) > 1 for rows in maps.values() for row in rows.values()):
        figures["length_score_by_group"] = score_map(maps)
    return figures


def _rows(one: Judged, prompts: TaskPrompts) -> pa.Table:
    size = len(one.asked)
    columns: dict[str, Any] = {
        "method": [one.method] * size,
        "constraint": [one.constraint] * size,
        "target": [a.target for a in one.asked],
        "unit": [a.unit for a in one.asked],
        "item": [a.item for a in one.asked],
        "language": pa.array([a.language for a in one.asked], pa.string()),
        "category": pa.array([a.category for a in one.asked], pa.string()),
        "type": pa.array([a.type for a in one.asked], pa.string()),
        **completion_columns(one.block, prompts),
        "length": one.length,  # in the unit that was asked for
        "length_score": one.score,
        "length_deviation": one.deviation,
        "correct": pa.array(one.correct, pa.bool_()),
    }
    return pa.table(columns)


def _counted(values: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value or "not given"] = counts.get(value or "not given", 0) + 1
    return counts

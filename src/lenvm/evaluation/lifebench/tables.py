"""The tables of `lifebench`: the paper's, and what stands behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lenvm.evaluation.lifebench.measures import constraints_of
from lenvm.evaluation.quality import COLUMNS, Measures
from lenvm.metrics import Constraint
from lenvm.report.results import markdown_table

TITLES: dict[Constraint, str] = {"equal": "Equal To", "at_most": "At Most", "at_least": "At Least"}

NOTES = {
    "tokens": (
        "Lengths are tokens of this generator's tokenizer, EOS included, as in the LenVM paper (appendix B). This is "
        "not the word count of LIFEBench's public leaderboard, and not to be compared with it."
    ),
    "words": (
        "Lengths are words and Chinese characters, counted as LIFEBench counts them. Its published code puts the "
        "deviation into Eq. 18 in percent and drops answers of length 0 and 1, so its numbers are not these."
    ),
    "characters": (
        "Lengths are characters: Chinese ones counted as LIFEBench counts them, all of them in other languages, where "
        "the public leaderboard counts words. The two are not to be compared."
    ),
}
_DEVIATION = (
    "Deviation is the mean of |LD|, as in the authors' code; LD in the tables below is the signed mean of Eq. 17."
)
_INTERVAL = "In parentheses, 95 % intervals, bootstrapped over items."

Rows = list[list[str]]


def overview(results: Mapping[str, Measures]) -> tuple[list[str], Rows]:
    """Columns and rows of the paper's Table 2: method, Equal To deviation and score, At Most score, At Least score."""
    shown = constraints_of(results)
    columns = ["method"]
    for constraint in shown:
        columns += ["Equal To deviation"] * (constraint == "equal") + [f"{TITLES[constraint]} score"]
    rows = []
    for method, found in results.items():
        row = [method]
        for constraint in shown:
            cell = found[constraint]
            low, high = cell["length_score_interval"]
            row += [f"{cell['absolute_deviation']:.0%}"] * (constraint == "equal")
            row.append(f"{cell['length_score']:.1f} ({low:.1f}-{high:.1f})")
        rows.append(row)
    return columns, rows


def as_markdown(results: Mapping[str, Measures], summary: Mapping[str, Any]) -> str:
    """All tables: the paper's, then by constraint the quality, and the scores by target, language and category."""
    columns, rows = overview(results)
    facts = f"{summary['items']} items at {', '.join(map(str, summary['targets']))} {summary['unit']}"
    if summary["too_long"]:
        facts += f"; {summary['too_long']} more were left out, they leave too little room for the largest target"
    lines = [markdown_table(columns, rows), f"{facts}. {summary['note']}", "", f"{_DEVIATION} {_INTERVAL}", ""]
    for constraint in constraints_of(results):
        cells = {method: found[constraint] for method, found in results.items()}
        names = [
            name for name, (key, _) in COLUMNS.items() if any(cell.get(key) is not None for cell in cells.values())
        ]
        table = [[method, *(_shown(cell, name) for name in names)] for method, cell in cells.items()]
        lines += [f"**{TITLES[constraint]}**", "", markdown_table(["method", *names], table)]
        for slices in ("by_target", "by_language", "by_category"):
            parts = {method: found[slices].get(constraint, {}) for method, found in results.items()}
            groups = list(next(iter(parts.values())))
            if len(groups) > 1:
                table = [[m, *(_shown(cells[g], "score") for g in groups)] for m, cells in parts.items()]
                lines += [f"Score {slices.replace('_', ' ')}", "", markdown_table(["method", *groups], table)]
    return "\n".join(lines)


def _shown(cell: Measures, name: str) -> str:
    key, kind = COLUMNS[name]
    return "" if cell[key] is None else format(cell[key], kind)

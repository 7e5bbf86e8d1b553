"""The trade-off as tables: every strength of every method, and every curve at 45 % of plain sampling's tokens."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from lenvm.evaluation.tradeoff.comparison import AT_SHARE, BUDGET, TILT, Estimate, Tradeoff
from lenvm.evaluation.tradeoff.outcomes import Outcome
from lenvm.report.results import markdown_table

_SHOWN_BUDGETS = 5
_PRINTED = ("tokens (95 %)", "x plain", "accuracy (95 %)", "NLL/token")

Rows = list[list[str]]


def points(found: Tradeoff) -> tuple[list[str], Rows]:
    """Columns, and a row for each tilt, baseline and budget; plain sampling stands among the tilts."""
    beyond = [k for k in found.plain.pass_at if k > 1]
    columns = ["method", "strength", "tokens (95 %)", "x plain", "accuracy (95 %)"]
    columns += [*(f"Pass@{k}" for k in beyond), "natural end", "NLL/token"]
    outcomes = [*found.tilts_with_plain.values(), *(o for family in found.baselines.values() for o in family)]
    return columns, [_row(o, found.plain, beyond) for o in (*outcomes, *found.budgets.values())]


def at_share(found: Tradeoff) -> tuple[list[str], Rows]:
    """Columns, and a row for each curve at 45 % of plain sampling's tokens, with the area between it and the tilt's.

    The area is the mean difference of the accuracies over the lengths from the shortest that both reach to plain's.
    """
    columns = [f"at {AT_SHARE:.0%} of the tokens", "accuracy (95 %)", "of plain accuracy (95 %)"]
    columns += ["area below tilt (95 %)", "lengths"]
    rows = []
    for name in found.curves:
        why = found.missing(name)
        row = [name, _shown(found.accuracy(name)), _shown(found.share(name)) if why is None else f"none: {why}"]
        area = None if name == TILT else found.area(name)
        if area is None:
            row += ["", ""]
        elif area.value is None:
            row += ["none: no shared lengths", ""]
        else:
            row += [
                _shown(area, why="too few resamples share lengths"),
                f"from {found.area_from(name):.0%}",
            ]
        rows.append(row)
    return columns, rows


def as_markdown(found: Tradeoff) -> str:
    """Both tables."""
    return "\n".join(markdown_table(*table(found)) for table in (points, at_share))


def print_tables(found: Tradeoff) -> None:
    """Prints both; of many budgets, a few."""
    columns, rows = points(found)
    first = len(rows) - len(found.budgets)
    step = max(-(-len(found.budgets) // _SHOWN_BUDGETS), 1)
    shown = [columns.index(name) for name in _PRINTED]
    named = [[" ".join(row[:2]).rstrip(), *(row[i] for i in shown)] for row in (*rows[:first], *rows[first::step])]
    _print("Tokens and accuracy", ["", *_PRINTED], named)
    columns, rows = at_share(found)
    _print(f"Tilt beside {BUDGET} and baselines", columns[:1] + columns[2:], [row[:1] + row[2:] for row in rows])


def _row(outcome: Outcome, plain: Outcome, beyond: list[int]) -> list[str]:
    (short, long), (low, high) = outcome.tokens_interval, outcome.pass_at_intervals[1]
    return [
        outcome.method,
        outcome.strength,
        f"{outcome.tokens:.1f} ({short:.1f}-{long:.1f})",
        f"{outcome.tokens / plain.tokens:.1%}",
        f"{outcome.accuracy:.1%} ({low:.1%}-{high:.1%})",
        *(f"{outcome.pass_at[k].mean():.1%}" for k in beyond),
        f"{outcome.natural_end:.1%}",
        "" if outcome.nll_per_token is None else f"{outcome.nll_per_token:.3f}",
    ]


def _shown(estimate: Estimate, why: str = "too few resamples reach it") -> str:
    """The number and its interval, or why there is none."""
    if estimate.value is None:
        return ""
    if estimate.interval is None:
        return f"{estimate.value:.1%} (no interval: {why})"
    return f"{estimate.value:.1%} ({estimate.interval[0]:.1%} to {estimate.interval[1]:.1%})"


def _print(title: str, columns: list[str], rows: Rows) -> None:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)

"""How the results of `tradeoff` are written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from lenvm.evaluation.statistics import largest_drop
from lenvm.evaluation.tradeoff.comparison import AT_SHARE, BUDGET, Tradeoff
from lenvm.evaluation.tradeoff.outcomes import Outcome
from lenvm.evaluation.tradeoff.tables import as_markdown, print_tables
from lenvm.report.results import ResultFolder
from lenvm.report.tradeoff_plots import AccuracyPoint, ChanceCurve, length_against_accuracy, pass_at_k_curves

_KEPT = 0.97
_COMPARED = (0.75, AT_SHARE)
"""At these shares of plain sampling's tokens, tilts and budgets are drawn beside each other over k."""


def write_tradeoff(output: Path, found: Tradeoff, rows: pa.Table, facts: Mapping[str, Any]) -> None:
    """Writes completions.parquet, summary.json, table.md and the figures; prints the tables.

    Args:
        output: the folder.
        found: the outcomes.
        rows: the completions.
        facts: what else stands in the summary.
    """
    tilts = found.tilts_with_plain
    drop = largest_drop([tilt.lengths for tilt in tilts.values()])
    best, best_cut = (_cheapest(outcomes.values(), found.plain) for outcomes in (tilts, found.budgets))
    folder = ResultFolder(output, "tradeoff")
    folder.write_rows("completions", rows)
    folder.write_summary(
        {
            **facts,
            "prompts": len(found.plain.lengths),
            **found.summary(),
            "tokens_at_97_percent_accuracy": None if best is None else best.tokens / found.plain.tokens,
            "beta_at_97_percent_accuracy": next((beta for beta, tilt in tilts.items() if tilt is best), None),
            "budget_tokens_at_97_percent_accuracy": None if best_cut is None else best_cut.tokens / found.plain.tokens,
            # between neighbouring strengths, prompt by prompt
            "mean_length_is_monotone": drop <= 1.0,
            "largest_drop_in_standard_errors": drop if np.isfinite(drop) else None,
            "plain": found.plain.summary(),
            "tilts": [{"beta": beta, **tilt.summary()} for beta, tilt in tilts.items()],
            "budgets": [{"budget": budget, **cut.summary()} for budget, cut in found.budgets.items()],
            "baselines": {
                name: [{"strength": outcome.strength, **outcome.summary()} for outcome in family]
                for name, family in found.baselines.items()
            },
        }
    )
    folder.write_table(as_markdown(found))
    folder.write_figures(_figures(found))
    print_tables(found)
    if best is not None:
        print(f"{best.tokens / found.plain.tokens:.1%} of the tokens keep {_KEPT:.0%} of the accuracy ({best.name}).")
    folder.finish("blocks/", "grades/")


def _cheapest(outcomes: Iterable[Outcome], plain: Outcome) -> Outcome | None:
    """The outcome with the fewest tokens of those that keep the accuracy; plain sampling itself may be one."""
    kept = [outcome for outcome in outcomes if outcome.accuracy >= _KEPT * plain.accuracy > 0]
    return min(kept, key=lambda outcome: outcome.tokens, default=None)


def _figures(found: Tradeoff) -> dict[str, Figure]:
    plain, families = found.plain, {n: family for n, family in found.baselines.items() if len(family) > 1}
    curves = {
        "Tilt (beta)": [_point(tilt, tilt.strength) for tilt in found.tilts_with_plain.values()],
        "hard budget": [_point(cut, "") for cut in (*found.budgets.values(), plain)],
        **{name: [_point(o, o.strength) for o in (*family, plain)] for name, family in families.items()},
    }
    alone = [_point(family[0], name) for name, family in found.baselines.items() if name not in families]
    figures = {
        "length_against_accuracy": length_against_accuracy(
            curves, alone, full=_point(plain, "plain"), kept=_KEPT, at=AT_SHARE
        )
    }
    if len(plain.pass_at) > 1:
        groups = {
            "Tilt": _nearest([tilt for beta, tilt in found.tilts.items() if beta < 0], plain),
            BUDGET: _nearest(list(found.budgets.values()), plain),
        }
        panels = [_chances("plain", "plain", plain, plain)]
        panels += [_chances(group, o.strength, o, plain) for group, outcomes in groups.items() for o in outcomes]
        figures["pass_at_k"] = pass_at_k_curves(panels)
    return figures


def _nearest(outcomes: Sequence[Outcome], plain: Outcome) -> list[Outcome]:
    """Those whose lengths are nearest to the compared shares of plain sampling's."""
    shares = [outcome.tokens / plain.tokens for outcome in outcomes]
    if not shares:
        return []
    return [outcomes[i] for i in dict.fromkeys(int(np.argmin(np.abs(np.subtract(shares, at)))) for at in _COMPARED)]


def _chances(group: str, strength: str, outcome: Outcome, plain: Outcome) -> ChanceCurve:
    label = "plain" if outcome is plain else f"{group} {strength}: {outcome.tokens / plain.tokens:.0%} of the tokens"
    ks = list(outcome.pass_at)
    chances = [float(values.mean()) for values in outcome.pass_at.values()]
    return ChanceCurve(group, label, ks, chances, [outcome.pass_at_intervals[k] for k in ks])


def _point(outcome: Outcome, label: str) -> AccuracyPoint:
    return AccuracyPoint(label, outcome.tokens, outcome.accuracy, outcome.tokens_interval, outcome.pass_at_intervals[1])

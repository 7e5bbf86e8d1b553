"""Points of the trade-off between tokens and right answers, and how they are written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lenvm.evaluation.results import ResultFolder, markdown_table
from lenvm.evaluation.statistics import Floats, bootstrap_interval, largest_drop
from lenvm.report.plots import AccuracyPoint, length_against_accuracy

_KEPT = 0.97
_COLUMNS = ("", "tokens (95 %)", "x plain", "accuracy (95 %)", "natural end", "NLL/token")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Completions of all prompts, as one point of the trade-off; intervals are bootstrapped over prompts (95 %).

    Args:
        name: what wrote them.
        strength: beta of a tilt, budget of a truncation.
        lengths: mean tokens of each prompt's completions; (P,).
        rights: share of right completions of each prompt; (P,).
        natural_end: share of completions that ended by themselves.
        nll_per_token: the generator's own negative log-likelihood per token; None where nothing was written anew.
    """

    name: str
    strength: float | None
    lengths: Floats
    rights: Floats
    natural_end: float
    nll_per_token: float | None

    @property
    def tokens(self) -> float:
        """Mean tokens per completion."""
        return float(self.lengths.mean())

    @property
    def accuracy(self) -> float:
        """Pass@1."""
        return float(self.rights.mean())

    def summary(self) -> dict[str, Any]:
        """Its figures, as JSON."""
        return {
            "mean_tokens": self.tokens,
            "mean_tokens_interval": bootstrap_interval(self.lengths),
            "accuracy": self.accuracy,
            "accuracy_interval": bootstrap_interval(self.rights),
            "natural_end": self.natural_end,
            "nll_per_token": self.nll_per_token,
        }


def write_tradeoff(
    output: Path, plain: Outcome, tilts: Sequence[Outcome], cuts: Sequence[Outcome], others: Sequence[Outcome]
) -> None:
    """Writes summary.json, table.md and the figure; prints the table.

    Args:
        output: the folder.
        plain: plain sampling.
        tilts: by ascending beta, plain sampling among them as 0.
        cuts: plain completions cut at budgets.
        others: baselines.
    """
    drop = largest_drop([tilt.lengths for tilt in tilts])
    best, best_cut = _cheapest(tilts, plain), _cheapest(cuts, plain)
    summary = {
        "prompts": len(plain.lengths),
        "plain": plain.summary(),
        "tilts": [{"beta": tilt.strength, **tilt.summary()} for tilt in tilts],
        "truncation": [{"budget": cut.strength, **cut.summary()} for cut in cuts],
        "baselines": {other.name: other.summary() for other in others},
        "tokens_at_97_percent_accuracy": None if best is None else best.tokens / plain.tokens,
        "beta_at_97_percent_accuracy": None if best is None else best.strength,
        "truncation_tokens_at_97_percent_accuracy": None if best_cut is None else best_cut.tokens / plain.tokens,
        # between neighbouring strengths, prompt by prompt
        "mean_length_is_monotone": drop <= 1.0,
        "largest_drop_in_standard_errors": drop if np.isfinite(drop) else None,
    }
    folder = ResultFolder(output, "tradeoff")
    folder.write_summary(summary)
    named = [*((f"tilt {tilt.strength:g}" if tilt.strength else "plain", tilt) for tilt in tilts)]
    named += [(outcome.name, outcome) for outcome in (*others, *cuts)]
    rows = [(name, *_row(outcome, plain)) for name, outcome in named]
    folder.write_table(markdown_table(list(_COLUMNS), [list(row) for row in rows]))
    figure = length_against_accuracy(
        {
            "Tilt (beta)": [_point(tilt, f"{tilt.strength:g}") for tilt in tilts if tilt.strength],
            "hard truncation": [_point(cut, "") for cut in cuts],
        },
        [_point(other, other.name) for other in others],
        full=_point(plain, "plain"),
        wanted=_KEPT,
    )
    folder.write_figures({"length_against_accuracy": figure})
    _print(rows[: len(tilts) + len(others)])
    if best is not None:
        print(
            f"{best.tokens / plain.tokens:.1%} of the tokens keep {_KEPT:.0%} of the accuracy (beta {best.strength:g})."
        )
    folder.finish("blocks/")


def _cheapest(outcomes: Sequence[Outcome], plain: Outcome) -> Outcome | None:
    """The outcome with the fewest tokens of those that keep the accuracy; plain sampling itself may be one."""
    kept = [outcome for outcome in outcomes if outcome.accuracy >= _KEPT * plain.accuracy]
    return min(kept, key=lambda outcome: outcome.tokens, default=None)


def _row(outcome: Outcome, plain: Outcome) -> list[str]:
    tokens, accuracy = bootstrap_interval(outcome.lengths), bootstrap_interval(outcome.rights)
    return [
        f"{outcome.tokens:.1f} ({tokens[0]:.1f}-{tokens[1]:.1f})",
        f"{outcome.tokens / plain.tokens:.1%}",
        f"{outcome.accuracy:.1%} ({accuracy[0]:.0%}-{accuracy[1]:.0%})",
        f"{outcome.natural_end:.1%}",
        "" if outcome.nll_per_token is None else f"{outcome.nll_per_token:.3f}",
    ]


def _point(outcome: Outcome, label: str) -> AccuracyPoint:
    tokens, accuracy = bootstrap_interval(outcome.lengths), bootstrap_interval(outcome.rights)
    return AccuracyPoint(label, outcome.tokens, outcome.accuracy, tokens, accuracy)


def _print(rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(title="Tokens and accuracy")
    for i, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)

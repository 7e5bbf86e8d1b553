"""What the prompt-boundary evaluation writes down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lenvm.evaluation.by_position import VALUE_MODEL
from lenvm.evaluation.prompt_boundary.completions import Completions
from lenvm.evaluation.prompt_boundary.measures import LengthBin, errors_by_domain, length_bins
from lenvm.evaluation.prompt_boundary.midstream import midstream_errors
from lenvm.evaluation.prompt_boundary.predictors import Floats, PromptTable
from lenvm.evaluation.prompt_boundary.states import StateScores
from lenvm.report.plots import predicted_against_true
from lenvm.report.prediction_plots import bias_by_length, error_by_group, midstream_error, reliability_diagram
from lenvm.report.results import ResultFolder, markdown_table

Errors = dict[str, dict[str, Any]]
_SHARES = ("mre", "mre_mean", "mre_median", "median_re", "within_50", "within_100")
_COLUMNS = {
    "mre": "MRE",
    "mre_mean": "MRE (mean length)",
    "mre_median": "MRE (median length)",
    "median_re": "median RE",
    "mae": "MAE (tokens)",
    "mae_mean": "MAE (mean length)",
    "mae_median": "MAE (median length)",
    "kendall_tau": "Kendall tau",
    "within_50": "within 50",
    "within_100": "within 100",
}
_PRINTED = ("mre", "median_re", "mae", "kendall_tau", "within_50")


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a reader has to know beside the numbers.

    Args:
        value_model: its name or folder.
        generator: what wrote the completions; None if unknown.
        sampling: how they were sampled; None if unknown.
        num_samples: how many completions every prompt should have.
        max_cut_share: prompts of which a larger share was cut were left out.
        training_prompts_known: whether it is known what the value model was trained on.
        train: what rivals learned from; None if there was nothing.
        regressor: how the non-discounted regressor was trained; None if there is none.
        gamma: discount factor of the ground truth.
    """

    value_model: str
    generator: str | None
    sampling: Mapping[str, Any] | None
    num_samples: int
    max_cut_share: float
    training_prompts_known: bool
    train: Completions | None
    regressor: Mapping[str, Any] | None
    gamma: float

    def summary(self) -> dict[str, Any]:
        """The entries of summary.json."""
        train = self.train
        return {
            "value_model": self.value_model,
            "generator": self.generator,
            "sampling": self.sampling,
            "num_samples": self.num_samples,
            "max_cut_share": self.max_cut_share,
            "training_prompts_known": self.training_prompts_known,
            "rivals_training_prompts": None if train is None else len(train.table.prompt_ids),
            "available_training_prompts": None if train is None else train.prompts_read,
            "regressor_fit": self.regressor,
            "gamma": self.gamma,
        }

    def note(self) -> str | None:
        """How the regressor was trained, as a sentence: it is to be compared with a model that had its own training."""
        how = self.regressor
        if how is None:
            return None
        if "folder" in how:
            return f"The non-discounted regressor ({how['target']}) was trained elsewhere: {how['folder']}.\n"
        return (
            f"The non-discounted regressor ({how['target']}) was trained for {how['epochs']} epoch(s) of "
            f"{how['completions_per_epoch']:,} of {how['training_completions']:,} training completions, "
            f"{how['completions_per_step']} per step, learning rate {how['lr']:g} (head {how['head_lr']:g}).\n"
        )


def write_prompt_boundary(
    output: Path,
    held_out: Completions,
    predictions: Mapping[str, Floats],
    scores: Mapping[str, StateScores],
    circumstances: Circumstances,
) -> None:
    """Writes prompts.parquet, completions.parquet, summary.json, table.md and the figures; prints the main table.

    Args:
        output: the folder.
        held_out: the completions that were judged on.
        predictions: predicted length of each prompt, by predictor, the value model first; (P,) each.
        scores: what those predictors say that read completions, the value model among them.
        circumstances: what else is to be said.
    """
    table = held_out.table
    incomplete = sum(len(own) < circumstances.num_samples for own in table.completion_lengths)
    per_domain = errors_by_domain(predictions, table)
    overall = per_domain["overall"]
    bins = length_bins(predictions[VALUE_MODEL], table.lengths)
    lengths = np.array([len(ids) for ids in held_out.token_ids], dtype=np.int64)
    by_position = midstream_errors(lengths, {name: score.predicted for name, score in scores.items()})
    reliability = scores[VALUE_MODEL].reliability
    rivals_mre = [e["mre"] for name, e in overall.items() if name != VALUE_MODEL]
    summary = {
        "mre": overall[VALUE_MODEL]["mre"],
        "better_than_each": overall[VALUE_MODEL]["mre"] < min(rivals_mre) if rivals_mre else None,
        "prompts": len(table.prompt_ids),
        "completions": sum(map(len, table.completion_lengths)),
        "scored_completions": len(lengths),
        "cut_completions": held_out.cut,
        "prompts_mostly_cut": held_out.mostly_cut,
        "incomplete_prompts": incomplete,
        **circumstances.summary(),
        "predictors": overall,
        "per_domain": per_domain,
        "by_position": by_position,
        "calibration": {
            "expected_error": reliability.expected_error(),
            "bins": [b._asdict() for b in reliability.bins()],
        },
        "length_bins": [{**b._asdict(), "variance": b.std**2} for b in bins],
    }
    folder = ResultFolder(output, "prompt_boundary")
    folder.write_rows("prompts", _prompt_rows(held_out, predictions))
    folder.write_rows("completions", _completion_rows(held_out, scores))
    folder.write_summary(summary)
    folder.write_table(_markdown(per_domain, by_position, bins, circumstances.note()))
    folder.write_figures(_figures(table, predictions, per_domain, by_position, bins, scores[VALUE_MODEL]))
    _print(overall, len(table.prompt_ids))
    if held_out.cut:
        print(
            f"{held_out.cut} completion(s) were cut by the limit, so their length is unknown: left out, and with them "
            f"{held_out.mostly_cut} prompt(s) of which all, or more than {circumstances.max_cut_share:.0%}, "
            "were cut (`--max_cut_share`)."
        )
    if incomplete:
        print(f"{incomplete} prompt(s) have fewer finished completions than {circumstances.num_samples}.")
    folder.finish("scores/")


def _prompt_rows(held_out: Completions, predictions: Mapping[str, Floats]) -> pa.Table:
    table = held_out.table
    return pa.table(
        {
            "prompt_id": table.prompt_ids,
            "domain": table.domains,
            "prompt_length": table.prompt_lengths.astype(np.int64),
            "completions": [len(lengths) for lengths in table.completion_lengths],
            "cut_completions": held_out.cut_of_prompt,
            "return_consistent_length": table.lengths,
            "mean_length": table.mean_lengths,
            "median_length": table.median_lengths,
            **{f"predicted: {name}": lengths for name, lengths in predictions.items()},
        }
    )


def _completion_rows(held_out: Completions, scores: Mapping[str, StateScores]) -> pa.Table:
    return pa.table(
        {
            "prompt_id": [held_out.table.prompt_ids[i] for i in held_out.prompt],
            "length": [len(ids) for ids in held_out.token_ids],
            **{f"predicted remaining: {name}": list(score.predicted) for name, score in scores.items()},
        }
    )


def _markdown(
    per_domain: Mapping[str, Errors], by_position: Mapping[str, Any], bins: list[LengthBin], note: str | None
) -> str:
    overall = per_domain["overall"]
    domains = [*(group for group in per_domain if group != "overall"), "overall"]
    mre = [[name, *(f"{per_domain[d][name]['mre']:.1%}" for d in domains)] for name in overall]
    rows = [[name, *(_shown(key, errors[key]) for key in _COLUMNS)] for name, errors in overall.items()]
    parts = [
        "## MRE before the first token\n\nAgainst the return-consistent length (lower is better).\n",
        markdown_table(["predictor", *domains], mre),
        *([] if note is None else [note]),
        "## All measures\n\nAgainst the return-consistent length, where no other is named.\n",
        markdown_table(["predictor", *_COLUMNS.values()], rows),
    ]
    for measure, title, form in (
        ("mae", "MAE of the remaining length (tokens)", ".1f"),
        ("relative_error", "Mean relative error of the remaining length", ".1%"),
    ):
        positions = list(by_position["states"])
        lines = [
            [name, *(format(errors[q], form) if q in errors else "" for q in positions)]
            for name, errors in by_position[measure].items()
        ]
        parts += [
            f"## {title}\n\nAfter a share of the completion.\n",
            markdown_table(["predictor", *(f"{q} %" for q in positions)], lines),
        ]
    lines = [
        [f"{b.low:.0f} to {b.high:.0f}", str(b.prompts), f"{b.bias:+.1f}", f"{b.std:.1f}", f"{b.mre:.1%}"] for b in bins
    ]
    parts += [
        "## Errors of the value model by true length\n\nPredicted minus true, in tokens.\n",
        markdown_table(["true length", "prompts", "bias", "standard deviation", "MRE"], lines),
    ]
    return "\n".join(parts)


def _figures(
    table: PromptTable,
    predictions: Mapping[str, Floats],
    per_domain: Mapping[str, Errors],
    by_position: Mapping[str, Any],
    bins: list[LengthBin],
    scores: StateScores,
) -> dict[str, Figure]:
    mre = {group: {name: e["mre"] for name, e in errors.items()} for group, errors in per_domain.items()}
    figures = {
        "predicted_against_true": predicted_against_true(
            predictions[VALUE_MODEL], table.lengths, table.domains, title="Length before the first token"
        ),
        "mre": error_by_group(mre, xlabel="MRE"),
        "bias_by_length": bias_by_length(
            [b.mean_length for b in bins], [b.bias for b in bins], [b.std for b in bins], [b.prompts for b in bins]
        ),
    }
    if by_position["mae"]:
        figures["error_by_position"] = midstream_error(by_position["mae"], by_position["relative_error"])
    found = scores.reliability.bins()
    if found:
        figures["calibration"] = reliability_diagram(
            [b.predicted for b in found], [b.true for b in found], expected_error=scores.reliability.expected_error()
        )
    return figures


def _shown(key: str, value: float) -> str:
    if key in _SHARES:
        return f"{value:.1%}"
    return f"{value:.2f}" if key == "kendall_tau" else f"{value:.1f}"


def _print(overall: Errors, prompts: int) -> None:
    shown = Table(title=f"Prompt-boundary length prediction, {prompts} held-out prompts")
    for column in ("predictor", *(_COLUMNS[key] for key in _PRINTED)):
        shown.add_column(column, justify="left" if column == "predictor" else "right")
    for name, errors in overall.items():
        shown.add_row(name, *(_shown(key, errors[key]) for key in _PRINTED))
    Console().print(shown)

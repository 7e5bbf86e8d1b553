"""Length tokens as tables, word clouds and a summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from lenvm.evaluation.length_tokens.strongest import StrongestContexts
from lenvm.evaluation.length_tokens.token_names import token_name, token_text
from lenvm.evaluation.length_tokens.token_statistics import TokenStatistics
from lenvm.report.results import ResultFolder
from lenvm.report.word_clouds import CloudWord, word_clouds

_SHOWN, _PRINTED, _CLOUD = 50, 15, 100
_CONTEXT = pa.list_(pa.struct([("shift", pa.float64()), ("before", pa.string()), ("after", pa.string())]))
_SCHEMA = pa.schema(
    [
        ("token_id", pa.int64()),
        ("token", pa.string()),
        ("text", pa.string()),
        ("count", pa.int64()),
        ("mean", pa.float64()),
        ("sd", pa.float64()),
        ("above", pa.int64()),
        ("below", pa.int64()),
        ("share_above", pa.float64()),
        ("share_below", pa.float64()),
        ("longer", _CONTEXT),
        ("shorter", _CONTEXT),
    ]
)
_COLUMNS = ("token", "events", "of all", "mean shift", "sd", "before", "after")


class _Side(NamedTuple):
    name: str
    events: str
    rows: list[dict[str, Any]]


def write_length_tokens(
    output: Path,
    found: TokenStatistics,
    tokenizer: PreTrainedTokenizerBase,
    *,
    gamma: float,
    min_count: int,
    font: Path | None,
) -> None:
    """Writes tokens.parquet, summary.json, table.md and the word clouds; prints the first tokens of each side.

    Args:
        output: the folder.
        found: statistics of all tokens.
        tokenizer: names the tokens.
        gamma: discount factor of the shifts.
        min_count: tokens that occur less often are in tokens.parquet only.
        font: TrueType file for the word clouds.
    """
    rows = _rows(found, tokenizer)
    folder = ResultFolder(output, "length_tokens")
    folder.write_rows("tokens", pa.Table.from_pylist(rows, schema=_SCHEMA))
    named = [row for row in rows if row["token"] is not None and row["count"] >= min_count]
    longer = _Side("longer", "above", _sorted([r for r in named if r["mean"] > found.threshold], "above"))
    shorter = _Side("shorter", "below", _sorted([r for r in named if r["mean"] < -found.threshold], "below"))
    sides = (longer, shorter)
    total = int(found.count.sum())
    summary = {
        "gamma": gamma,
        "thresholds": [-found.threshold, found.threshold],
        "min_count": min_count,
        "rollouts": found.rollouts,
        "tokens": total,
        "tokens_beyond_context": found.unscored,
        "different_tokens": len(rows),
        "events": {"longer": int(found.above.sum()), "shorter": int(found.below.sum())},
        # about 0 if the model predicts these completions without bias
        "mean_shift": float((found.mean * found.count).sum() / max(total, 1)),
        **{side.name: [_summarised(row, side) for row in side.rows[:_SHOWN]] for side in sides},
    }
    folder.write_summary(summary)
    folder.write_table("\n".join(_markdown(side) for side in sides))
    clouds = {f"{side.name} answers": _cloud(side) for side in sides}
    folder.write_figures({"word_clouds": word_clouds(clouds, shade="mean horizon shift", font=font)})
    for side in sides:
        _print(side)
    folder.finish("parts/")


def _rows(found: TokenStatistics, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    deviation = np.sqrt(found.variance)
    return [
        {
            "token_id": token,
            "token": token_name(tokenizer, token),
            "text": token_text(tokenizer, token),
            "count": int(found.count[token]),
            "mean": float(found.mean[token]),
            "sd": float(deviation[token]),
            "above": int(found.above[token]),
            "below": int(found.below[token]),
            "share_above": float(found.above[token] / found.count[token]),
            "share_below": float(found.below[token] / found.count[token]),
            "longer": _contexts(found.longer, 1.0, token, tokenizer),
            "shorter": _contexts(found.shorter, -1.0, token, tokenizer),
        }
        for token in np.flatnonzero(found.count).tolist()
    ]


def _contexts(
    strongest: StrongestContexts, sign: float, token: int, tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, Any]]:
    found = []
    for strength, context in strongest.of(token):
        before, after = (str(tokenizer.decode(ids)) for ids in context.ids())
        found.append({"shift": sign * strength, "before": before, "after": after})
    return found


def _sorted(rows: list[dict[str, Any]], events: str) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (-row[events], -abs(row["mean"]), row["token_id"]))


def _summarised(row: dict[str, Any], side: _Side) -> dict[str, Any]:
    kept = {name: row[name] for name in ("token", "token_id", "count", "mean", "sd")}
    return {**kept, "events": row[side.events], "contexts": row[side.name]}


def _cells(row: dict[str, Any], side: _Side) -> list[str]:
    strongest = row[side.name][0] if row[side.name] else {"before": "", "after": ""}
    share = row[side.events] / row["count"]
    figures = [f"{row[side.events]:,}", f"{share:.0%}", f"{row['mean']:+.3f}", f"{row['sd']:.3f}"]
    return [row["token"], *figures, *(strongest[name].replace("\n", "\\n") for name in ("before", "after"))]


def _markdown(side: _Side) -> str:
    lines = [
        f"## Tokens that make answers {side.name}",
        "",
        f"Mean shift beyond the threshold; the {min(_SHOWN, len(side.rows))} with most events of {len(side.rows)}. "
        "The context is that of the largest shift.",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in side.rows[:_SHOWN]:
        name, *figures, before, after = _cells(row, side)
        lines.append("| " + " | ".join([_code(name), *figures, _code(before), _code(after)]) + " |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    """Text as it is inside a table: nothing in it is Markdown, and a bar ends no cell."""
    if not text.strip():
        return ""
    fence = "``" if "`" in text else "`"
    padding = " " if "`" in text else ""
    return f"{fence}{padding}{text}{padding}{fence}".replace("|", r"\|")


def _cloud(side: _Side) -> list[CloudWord]:
    words: dict[str, CloudWord] = {}
    for row in side.rows:
        # two ids may have one name
        name, events, mean = row["token"], row[side.events], row["mean"]
        before = words.get(name, CloudWord(name, 0, 0.0))
        total = before.events + events
        if total:
            words[name] = CloudWord(name, total, (before.shade * before.events + mean * events) / total)
    return sorted(words.values(), key=lambda word: -word.events)[:_CLOUD]


def _print(side: _Side) -> None:
    table = Table(title=f"Tokens that make answers {side.name}, by number of events")
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in _COLUMNS[1:5] else "left")
    for row in side.rows[:_PRINTED]:
        table.add_row(*map(escape, _cells(row, side)))
    Console().print(table)

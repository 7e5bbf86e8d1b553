"""`lenvm rollout stats`: how long the completions of a folder are, and the gamma that fits them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lenvm.data.encoding import PromptFormat, RolloutEncoder
from lenvm.data.lengths import NO_DOMAIN, CompletionLengths, read_lengths
from lenvm.data.reading import find_files
from lenvm.data.tokenizer import load_tokenizer
from lenvm.errors import InputError
from lenvm.metrics.length_distribution import PERCENTILES, LengthStatistics, length_statistics
from lenvm.report.length_plots import LengthCurve, length_survival

_OVERALL = "all domains"
_MANY_CENSORED = 0.01
_NO_TERMINAL_WIDTH = 100
_DEFINITIONS = (
    "Lengths are tokens, EOS counted. Mean, percentiles, variances and gamma are of finished completions; a percentile "
    "is the k-th smallest, k = ceil(q n). Variances are one-way random-effects components: within = pooled variance "
    "inside prompts, between = (MS_between - MS_within) / n0, at least 0; share between = between / (between + within)."
    " gamma = 0.01 ** (1 / L99)."
)


def stats(
    folder: Path, *, tokenizer: str | None = None, prompt_format: PromptFormat = "auto", output: Path | None = None
) -> None:
    """Length statistics of rollouts, by domain: percentiles, share cut, variance between and within prompts, gamma.

    Writes stats.json, and a figure of the distributions as lengths.png and lengths.svg. `gamma: auto` in the
    configuration of `lenvm fit` is the gamma of all domains that is printed here.

    Args:
        folder: a folder of shards, or one file of rollouts.
        tokenizer: hub name or folder of the generator's tokenizer; only text rows need it, rows with ids do not.
        prompt_format: how the prompts of text rows become tokens, as in `lenvm fit`: `auto`, `chat` or `plain`.
        output: folder for the files; default: `__stats__` in the folder, or beside a file, with its name in front.
    """
    files = find_files([folder])
    if files is None:
        raise InputError(f"{folder} does not exist; expected a folder or a file of rollouts.")
    encoder = RolloutEncoder(load_tokenizer(tokenizer), prompt_format) if tokenizer is not None else None
    lengths = read_lengths(files, encoder)
    overall = length_statistics(lengths.length, lengths.finished, lengths.prompt)
    if overall.gamma is None:
        raise InputError(
            f"all {overall.completions:,} completions in {folder} were cut by the limit, so no length is known; sample "
            "with a higher limit."
        )
    domains = _by_domain(lengths)
    _print(overall, domains)
    # a name that those who read the folder as a table pass over
    target, prefix = (folder / "__stats__", "") if folder.is_dir() else (folder.parent, f"{folder.name}.")
    names = _write(folder, overall, domains, lengths, output or target, "" if output else prefix)
    print(f"Done. Everything is under {output or target}: {', '.join(names)}.")


def _by_domain(lengths: CompletionLengths) -> dict[str, LengthStatistics]:
    """Statistics by domain in alphabetical order; empty where no row names one."""
    if lengths.domains == [NO_DOMAIN]:
        return {}
    found = {}
    for name in sorted(lengths.domains):
        here = lengths.domain == lengths.domains.index(name)
        found[name] = length_statistics(lengths.length[here], lengths.finished[here], lengths.prompt[here])
    return found


def _print(overall: LengthStatistics, domains: dict[str, LengthStatistics]) -> None:
    rows = [*domains.items(), (_OVERALL, overall)]
    counts = _table("Rollouts", "prompts", "completions", "tokens", "cut")
    shape = _table("Length in tokens", "mean", *(f"L{p}" for p in PERCENTILES))
    spread = _table(
        "Variance (tokens squared) and gamma", "between prompts", "within prompts", "share between", "gamma"
    )
    for name, found in rows:
        cut = f"{found.censored_share:.2%}"
        counts.add_row(name, f"{found.prompts:,}", f"{found.completions:,}", f"{found.tokens:,}", cut)
        percentiles = [_shown(found.percentiles.get(p), "d") for p in PERCENTILES]
        shape.add_row(name, _shown(found.mean, ".1f"), *percentiles)
        between, within, share = found.variance
        parts = _shown(between, ",.0f"), _shown(within, ",.0f"), _shown(share, ".1%"), _shown(found.gamma, ".6f")
        spread.add_row(name, *parts)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_NO_TERMINAL_WIDTH)
    console.print(counts, shape, spread)
    console.print(_DEFINITIONS, style="dim", highlight=False, markup=False)
    many = {name: found.censored_share for name, found in rows if found.censored_share > _MANY_CENSORED}
    if many:
        shares = ", ".join(f"{share:.1%} of {name}" for name, share in many.items())
        print(
            f"Cut by the limit: {shares}. Their lengths are unknown, so L99 and gamma are lower bounds there; sample "
            "with a higher limit for the true ones."
        )


def _table(title: str, *columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1))
    table.add_column("domain", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _shown(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)


def _write(
    source: Path,
    overall: LengthStatistics,
    domains: dict[str, LengthStatistics],
    lengths: CompletionLengths,
    output: Path,
    prefix: str,
) -> list[str]:
    content = {
        "source": str(source),
        "definitions": _DEFINITIONS,
        "overall": _plain(overall),
        "domains": {name: _plain(found) for name, found in domains.items()},
    }
    curves = {
        name: _curve(found, lengths.length[lengths.finished & (lengths.domain == lengths.domains.index(name))])
        for name, found in domains.items()
        if found.percentiles
    }
    figure = length_survival(curves, _curve(overall, lengths.length[lengths.finished]))
    names = [f"{prefix}{name}" for name in ("stats.json", "lengths.png", "lengths.svg")]
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / names[0]).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for name in names[1:]:
            figure.savefig(output / name, dpi=150)
    except OSError as error:
        raise InputError(
            f"cannot write the statistics into {output} ({error.strerror or error}); name another folder with "
            "`--output`."
        ) from error
    return names


def _plain(found: LengthStatistics) -> dict[str, Any]:
    """As stats.json has it."""
    return {
        "prompts": found.prompts,
        "completions": found.completions,
        "tokens": found.tokens,
        "censored": found.censored,
        "censored_share": found.censored_share,
        "mean": found.mean,
        "percentiles": found.percentiles,
        "variance_between_prompts": found.variance.between,
        "variance_within_prompts": found.variance.within,
        "share_between_prompts": found.variance.between_share,
        "gamma": found.gamma,
        "gamma_is_lower_bound": found.censored_share > _MANY_CENSORED,
    }


def _curve(found: LengthStatistics, lengths: np.ndarray) -> LengthCurve:
    return LengthCurve(lengths, found.percentiles["50"], found.percentiles["99"])

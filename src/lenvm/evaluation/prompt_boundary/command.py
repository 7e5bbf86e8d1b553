"""Prompt-boundary length prediction: how long will the completion be, before its first token (paper section 4.4)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from rich.console import Console
from rich.table import Table

from lenvm.data import Rollout, RolloutDataModule
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.reading import find_files, read_hub_rows, read_rows
from lenvm.data.rollout import BadRowError, parse_rollout
from lenvm.data.tokenizer import fingerprint
from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary.measures import errors
from lenvm.evaluation.prompt_boundary.predictors import (
    AbstractLengthPredictor,
    BestConstant,
    Floats,
    PromptLengthLine,
    PromptTable,
    TfidfRidge,
)
from lenvm.metrics import return_consistent_length
from lenvm.models import LengthValueModel
from lenvm.models.value_model import check_tokenizer
from lenvm.report.plots import error_bars, predicted_against_true


def prompt_table(
    rollouts: Iterator[Rollout], encoder: RolloutEncoder, gamma: float, lengths_field: str | None
) -> PromptTable:
    """One row per prompt, with the return-consistent length of its completions (Eq. 13 and 14).

    Args:
        rollouts: completions; those cut by the limit are left out, since their length is unknown.
        encoder: turns prompts and completions into tokens.
        gamma: discount factor of the ground truth.
        lengths_field: key of `metadata` that lists the lengths of all completions of the prompt, EOS counted, where
            the rows hold only some of them; None counts the completions themselves.
    """
    lengths: dict[str, list[int]] = defaultdict(list)
    first: dict[str, Rollout] = {}
    for rollout in rollouts:
        if lengths_field is not None:
            listed = (rollout.metadata or {}).get(lengths_field)
            if not isinstance(listed, list) or not listed:
                raise InputError(
                    f"prompt {rollout.prompt_id} has no list `metadata.{lengths_field}`; check `--lengths_field`."
                )
            lengths[rollout.prompt_id] = [int(n) for n in listed]
        elif rollout.finish_reason == "stop":
            encoded = encoder.encode([rollout])[0]
            if isinstance(encoded, BadRowError):
                continue  # the run has reported and skipped it
            lengths[rollout.prompt_id].append(len(encoded.completion_ids))
        else:
            continue
        first.setdefault(rollout.prompt_id, rollout)
    if not first:
        raise InputError("there is no finished completion to evaluate on; sample with a higher limit.")
    prompt_ids = sorted(first)
    groups = torch.repeat_interleave(torch.tensor([len(lengths[p]) for p in prompt_ids]))
    flat = torch.tensor([n for p in prompt_ids for n in lengths[p]])
    texts = [_text(first[p], encoder) for p in prompt_ids]
    return PromptTable(
        prompt_ids=prompt_ids,
        texts=texts,
        prompt_lengths=np.array([len(ids) for ids in _token_ids([first[p] for p in prompt_ids], encoder)], dtype=float),
        lengths=return_consistent_length(flat, groups, gamma).numpy(),
        domains=[first[p].domain or "all" for p in prompt_ids],
    )


def prompt_boundary(
    run: Path,
    *,
    output: Path | None = None,
    lengths_field: str | None = None,
    split: str = "test",
) -> None:
    """Evaluates a trained model's length predictions on held-out prompts, beside predictors that do not read tokens.

    Writes summary.json, predictions per prompt, a Markdown table and figures.

    Args:
        run: folder of a finished `lenvm fit`: its config.yaml says which prompts were held out.
        output: folder for the results; default: `prompt_boundary` in the run's folder.
        lengths_field: key of `metadata` that lists the lengths of all completions of a prompt, EOS counted, where the
            rows hold only some of them.
        split: `test` or `val`: which held-out prompts to judge on.
    """
    output = output or run / "prompt_boundary"
    model = LengthValueModel.from_pretrained(run / "model")
    data = _data_of_run(run, model)
    if split not in data.datasets:
        raise InputError(
            f"the run in {run} held out no `{split}` prompts; set `data.{split}_fraction` or `data.{split}`."
        )
    encoder = RolloutEncoder(data.tokenizer, data.prompt_format)
    tables = {
        part: prompt_table(_rollouts(data, part), encoder, model.gamma, lengths_field) for part in ("train", split)
    }
    train, held_out = tables["train"], tables[split]
    predictions: dict[str, Floats] = {}
    by_id = {r.prompt_id: r for r in _rollouts(data, split)}
    prompts = _token_ids([by_id[p] for p in held_out.prompt_ids], encoder)
    predictions["length value model"] = model.predict_length(prompts).double().numpy()
    rivals: list[AbstractLengthPredictor] = [BestConstant(), PromptLengthLine(), TfidfRidge()]
    for rival in rivals:
        rival.fit(train)
        predictions[rival.name] = rival.predict(held_out)
    _write(output, model.gamma, held_out, predictions)


def _write(output: Path, gamma: float, table: PromptTable, predictions: dict[str, Floats]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    names = np.asarray(table.domains)
    groups = {"overall": np.ones(len(names), dtype=bool)}
    if len(set(table.domains)) > 1:
        groups |= {domain: names == domain for domain in sorted(set(table.domains))}
    results = {
        group: {name: errors(p[here], table.lengths[here]) for name, p in predictions.items()}
        for group, here in groups.items()
    }
    summary = {"prompts": len(names), "gamma": gamma, "predictors": results["overall"], "per_domain": results}
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (output / "table.md").write_text(_markdown(results["overall"]), encoding="utf-8")
    figures = {
        "predicted_against_true": predicted_against_true(
            predictions["length value model"], table.lengths, table.domains, title="Length before the first token"
        ),
        "mre": error_bars({g: {n: e["mre"] for n, e in r.items()} for g, r in results.items()}, ylabel="MRE"),
    }
    for name, figure in figures.items():
        figure.savefig(output / f"{name}.png", dpi=150)
    shown = Table(title=f"Prompt-boundary length prediction, {len(names)} held-out prompts")
    for column in ("predictor", "MRE", "median RE", "MAE (tokens)", "Kendall tau"):
        shown.add_column(column, justify="left" if column == "predictor" else "right")
    for name, e in results["overall"].items():
        shown.add_row(name, f"{e['mre']:.1%}", f"{e['median_re']:.1%}", f"{e['mae']:.1f}", f"{e['kendall_tau']:.2f}")
    Console().print(shown)
    print(f"Done. Everything is under {output}: summary.json, table.md, predicted_against_true.png, mre.png.")


def _markdown(results: dict[str, dict[str, float]]) -> str:
    lines = ["| predictor | MRE | median RE | MAE (tokens) | Kendall tau |", "|---|---:|---:|---:|---:|"]
    for name, e in results.items():
        lines.append(f"| {name} | {e['mre']:.1%} | {e['median_re']:.1%} | {e['mae']:.1f} | {e['kendall_tau']:.2f} |")
    return "\n".join(lines) + "\n"


def _data_of_run(run: Path, model: LengthValueModel) -> RolloutDataModule:
    """The run's data module with the run's splits, from its resolved configuration."""
    path = run / "config.yaml"
    if not path.exists():
        raise InputError(f"expected the folder of a finished `lenvm fit`, but {path} does not exist.")
    settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    settings["tokenizer"] = settings.get("tokenizer") or str(run / "model")
    settings["max_length"] = settings.get("max_length") or model.backbone.context_length
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RolloutDataModule, "data")
    try:
        data: RolloutDataModule = parser.instantiate_classes(parser.parse_object({"data": settings})).data
    except ArgumentError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    check_tokenizer(model.tokenizer_fingerprint, fingerprint(data.tokenizer), str(run / "model"))
    data.setup("evaluate")
    return data


def _rollouts(data: RolloutDataModule, split: str) -> Iterator[Rollout]:
    """The rows of a split, as they stand in its files."""
    source = data.sources[split] or data.sources["train"]
    sources = [source] if isinstance(source, str) else list(source or [])
    columns: Any = data.read_options["columns"]
    split_name = str(data.read_options["hub_split"])
    files = find_files(sources)
    wanted = set(data.datasets[split].prompt_ids)
    rows = read_rows(files, columns) if files is not None else read_hub_rows(sources[0], split_name, columns)
    for row in rows:
        try:
            rollout = parse_rollout(row.data) if row.data is not None else None
        except BadRowError:
            continue  # the run itself has reported it
        if rollout is not None and rollout.prompt_id in wanted:
            yield rollout


def _token_ids(rollouts: list[Rollout], encoder: RolloutEncoder) -> list[list[int]]:
    return [r.prompt_ids or encoder.encode_prompts([r.prompt or ""])[0] for r in rollouts]


def _text(rollout: Rollout, encoder: RolloutEncoder) -> str:
    if rollout.prompt is None:
        return str(encoder.tokenizer.decode(rollout.prompt_ids or []))
    return encoder.prompt_text(rollout.prompt)[0]

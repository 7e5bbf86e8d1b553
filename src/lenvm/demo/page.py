"""The demo's figures and its HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase

from lenvm.data.rollout import Rollout
from lenvm.demo.held_out import HeldOut
from lenvm.models import LengthValueModel
from lenvm.report.page import png_data_uri, render
from lenvm.report.plots import ValueCurve, error_bars, error_by_position, predicted_against_true, value_curves
from lenvm.returns import horizon_shifts
from lenvm.version import __version__

_COMPLETIONS_PER_DOMAIN = 2


def write_page(
    output: Path,
    summary: dict[str, Any],
    held_out: HeldOut,
    model: LengthValueModel,
    rollouts: list[Rollout],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Writes report.html and its figures as PNG under `figures/`."""
    completions = [_read(rollout, model, tokenizer) for rollout in _examples(rollouts)]
    curves = [
        ValueCurve(c["prompt"], torch.tensor(c["predicted"]).numpy(), torch.tensor(c["remaining"]).numpy())
        for c in completions
    ]
    figures = _figures(summary, held_out, curves)
    folder = output / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, figure) in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150)
    page = render(
        "demo.html",
        summary=summary,
        figures=[(title, png_data_uri(figure)) for title, figure in figures.values()],
        completions=completions,
        version=__version__,
    )
    (output / "report.html").write_text(page, encoding="utf-8")


def _figures(summary: dict[str, Any], held_out: HeldOut, curves: list[ValueCurve]) -> dict[str, tuple[str, Figure]]:
    prediction, mae = summary["length_prediction"], summary["length_mae"]
    by_group = {"overall": prediction, **prediction["per_domain"]}
    mre = {g: {"length value model": e["mre"], "best constant": e["constant_mre"]} for g, e in by_group.items()}
    return {
        "predicted_against_true": (
            "Length before the first token, one dot per held-out prompt",
            predicted_against_true(held_out.predicted, held_out.true, held_out.domains),
        ),
        "mre": ("Mean relative error by domain", error_bars(mre, ylabel="MRE")),
        "error_by_position": (
            "Error of the remaining length as the completion is written",
            error_by_position({"length value model": list(mae.values())}, list(mae)),
        ),
        "value_curves": ("Tokens to come, predicted and true, along completions", value_curves(curves)),
    }


def _examples(rollouts: list[Rollout]) -> list[Rollout]:
    """Of one prompt per domain, a short and a long completion."""
    chosen: list[Rollout] = []
    for domain in sorted({r.domain or "all" for r in rollouts}):
        finished = [r for r in rollouts if r.domain == domain and r.finish_reason == "stop"]
        # the prompt whose completions differ most in length shows most
        by_prompt: dict[str, list[Rollout]] = {}
        for rollout in finished:
            by_prompt.setdefault(rollout.prompt_id, []).append(rollout)
        ordered = [sorted(group, key=lambda r: len(r.completion_ids or [])) for group in by_prompt.values()]
        widest = max(
            ordered, key=lambda group: len(group[-1].completion_ids or []) - len(group[0].completion_ids or [])
        )
        chosen += [widest[len(widest) // 8], widest[-len(widest) // 8]][:_COMPLETIONS_PER_DOMAIN]
    return chosen


@torch.inference_mode()
def _read(rollout: Rollout, model: LengthValueModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What the value model sees in one completion, token by token."""
    prompt_ids, completion_ids = rollout.prompt_ids or [], rollout.completion_ids or []
    states = slice(len(prompt_ids) - 1, len(prompt_ids) + len(completion_ids) - 1)
    input_ids = torch.tensor([prompt_ids + completion_ids])
    predicted = model.remaining(input_ids)[0, states].tolist()
    horizon = [*model.horizon(input_ids)[0, states].tolist(), 0.0]
    shifts = horizon_shifts(torch.tensor(horizon, dtype=torch.float64), model.gamma).tolist()
    prompt = rollout.prompt[-1]["content"] if isinstance(rollout.prompt, list) else str(rollout.prompt)
    return {
        "domain": rollout.domain,
        "prompt": prompt,
        "tokens": [tokenizer.decode([i]) for i in completion_ids],
        "shifts": [round(s, 4) for s in shifts],
        "predicted": [round(p, 2) for p in predicted],
        "remaining": [float(len(completion_ids) - t) for t in range(len(completion_ids))],
    }

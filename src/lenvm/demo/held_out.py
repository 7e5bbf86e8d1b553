"""How the demo's value model does on held-out prompts, and how the policy does."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from lenvm.data.rollout import Rollout
from lenvm.evaluation.prompt_boundary.measures import errors
from lenvm.evaluation.prompt_boundary.predictors import Floats, best_constant
from lenvm.metrics import return_consistent_length
from lenvm.models import LengthValueModel
from lenvm.playground import is_correct


class HeldOut(NamedTuple):
    """Results on held-out prompts.

    Attributes:
        prompt_ids: the prompts; P of them.
        domains: domain of each prompt.
        predicted: predicted length of each prompt before the first token; (P,).
        true: return-consistent length of each prompt's completions; (P,).
        generator: accuracy, eos_rate and length_cv of the policy, also by domain.
        length_prediction: mre, constant_mre, kendall_tau, ..., also by domain.
    """

    prompt_ids: list[str]
    domains: list[str]
    predicted: Floats
    true: Floats
    generator: dict[str, Any]
    length_prediction: dict[str, Any]


def judge(model: LengthValueModel, rollouts: list[Rollout]) -> HeldOut:
    """Compares predicted lengths with those of many completions per prompt (paper Eq. 13-15)."""
    finished = [r for r in rollouts if r.finish_reason == "stop"]
    first = {r.prompt_id: r for r in finished}
    prompt_ids = sorted(first)
    number = {p: i for i, p in enumerate(prompt_ids)}
    lengths = torch.tensor([len(r.completion_ids or []) for r in finished])
    groups = torch.tensor([number[r.prompt_id] for r in finished])
    true = return_consistent_length(lengths, groups, model.gamma).numpy()
    predicted = model.predict_length([first[p].prompt_ids or [] for p in prompt_ids]).double().numpy()
    domains = [first[p].domain or "all" for p in prompt_ids]
    return HeldOut(
        prompt_ids,
        domains,
        predicted,
        true,
        policy_figures(rollouts),
        _prediction(predicted, true, np.asarray(domains)),
    )


def _prediction(predicted: Floats, true: Floats, domains: np.ndarray) -> dict[str, Any]:
    # the constant is chosen on the very prompts it is judged on: no constant can do better
    constant = best_constant(true)

    def figures(here: np.ndarray) -> dict[str, float]:
        constant_mre = float(np.mean(np.abs(constant - true[here]) / true[here]))
        return {**errors(predicted[here], true[here]), "constant_mre": constant_mre, "prompts": int(here.sum())}

    everywhere = np.ones(len(true), dtype=bool)
    return {**figures(everywhere), "per_domain": {d: figures(domains == d) for d in sorted(set(domains.tolist()))}}


def policy_figures(rollouts: list[Rollout]) -> dict[str, Any]:
    """Accuracy, share of natural ends, mean length, and the mean over prompts of the length's variation coefficient."""

    def figures(chosen: list[Rollout]) -> dict[str, float]:
        by_prompt: dict[str, list[int]] = {}
        for rollout in chosen:
            by_prompt.setdefault(rollout.prompt_id, []).append(len(rollout.completion_ids or []))
        cv = [np.std(lengths) / np.mean(lengths) for lengths in by_prompt.values()]
        return {
            "accuracy": float(np.mean([is_correct(r) for r in chosen])),
            "eos_rate": float(np.mean([r.finish_reason == "stop" for r in chosen])),
            "length_cv": float(np.mean(cv)),
            "mean_length": float(np.mean([len(r.completion_ids or []) for r in chosen])),
        }

    domains = sorted({r.domain or "all" for r in rollouts})
    return {**figures(rollouts), "per_domain": {d: figures([r for r in rollouts if r.domain == d]) for d in domains}}

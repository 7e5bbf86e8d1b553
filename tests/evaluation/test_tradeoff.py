from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenvm.data.rollout import Rollout
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.blocks import Block
from lenvm.evaluation.methods import AskForLength, ForcedLength, LengthPenalty
from lenvm.evaluation.prompts import TaskPrompts
from lenvm.evaluation.tradeoff import tradeoff
from lenvm.evaluation.tradeoff.command import _outcome, _truncated
from lenvm.evaluation.tradeoff.results import Outcome, write_tradeoff
from lenvm.tasks import Playground

SMALL: dict[str, Any] = {
    "prompts": 4,
    "num_samples": 2,
    "betas": (-20, 0, 3),
    "sampling": SamplingSettings(top_k=8, max_tokens=48),
}


def block_of(rows: list[tuple[int, int, bool, bool]]) -> Block:
    """Completions given as prompt, length, whether it ended, whether it is right."""
    prompt, length, natural, right = zip(*rows, strict=True)
    texts = ["Answer: 7" if yes else "Answer: 8" for yes in right]
    lengths = np.array(length)
    return Block(
        np.array(prompt), np.arange(len(rows)), texts, [[5] * n for n in length], lengths, np.array(natural),
        0.5 * lengths, 0.1 * lengths, 1.0,
    )  # fmt: skip


def test_truncation_by_hand() -> None:
    rollouts = [Rollout(prompt="p", prompt_id=str(i), domain="math", reference="7") for i in range(2)]
    prompts = TaskPrompts(Playground(), rollouts)
    # prompt, length, ended, right
    block = block_of([(0, 4, True, True), (0, 10, True, True), (1, 6, True, False), (1, 12, False, True)])
    plain = _outcome("plain", block, prompts)
    assert (plain.tokens, plain.accuracy, plain.natural_end, plain.nll_per_token) == (8.0, 0.5, 0.75, 0.5)
    expected = {  # budget: tokens, accuracy, share that had ended
        3: (3.0, 0.0, 0.0),
        4: (4.0, 0.25, 0.25),
        6: ((4 + 6 + 6 + 6) / 4, 0.25, 0.5),
        10: ((4 + 10 + 6 + 10) / 4, 0.5, 0.75),
        99: (8.0, 0.5, 0.75),
    }
    for budget, figures in expected.items():
        cut = _truncated(block, prompts, budget)
        assert (cut.tokens, cut.accuracy, cut.natural_end) == figures
        assert cut.strength == budget


def outcome(beta: float | None, tokens: float, accuracy: float) -> Outcome:
    # ten prompts around the mean length, of which some are always right
    lengths = tokens + np.linspace(-1, 1, 10) * (1 + 0.1 * np.arange(10))
    rights = np.r_[np.ones(round(10 * accuracy)), np.zeros(10 - round(10 * accuracy))]
    lengths += tokens - lengths.mean()
    return Outcome(name="x", strength=beta, lengths=lengths, rights=rights, natural_end=1.0, nll_per_token=0.1)


def test_what_keeps_the_accuracy_is_the_shortest_tilt_above_the_line(tmp_path: Path) -> None:
    plain = outcome(0.0, 40, 1.0)
    tilts = [outcome(-9, 10, 0.9), outcome(-5, 20, 1.0), outcome(-2, 30, 1.0), plain, outcome(2, 35, 1.0)]
    write_tradeoff(tmp_path, plain, tilts, [outcome(12, 12, 0.5), outcome(38, 38, 1.0)], [])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["tokens_at_97_percent_accuracy"] == pytest.approx(0.5)
    assert summary["beta_at_97_percent_accuracy"] == -5
    assert summary["truncation_tokens_at_97_percent_accuracy"] == pytest.approx(38 / 40)
    # from 40 to 35 tokens, at a larger beta
    assert summary["mean_length_is_monotone"] is False
    write_tradeoff(tmp_path, plain, tilts[:-1], [outcome(12, 12, 0.5)], [])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["mean_length_is_monotone"] is True
    assert summary["truncation_tokens_at_97_percent_accuracy"] is None


def test_a_sweep_on_the_playground(tmp_path: Path, value_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    baselines = {"brief": AskForLength(template="Be brief."), "penalty": LengthPenalty(start=0, factor=1.02)}
    tradeoff(tmp_path, value_model=value_model, baselines=baselines, **SMALL)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [tilt["beta"] for tilt in summary["tilts"]] == [-20, 0, 3]
    assert summary["tilts"][1]["mean_tokens"] == summary["plain"]["mean_tokens"]
    assert set(summary["baselines"]) == {"brief", "penalty"}
    budgets = [cut["budget"] for cut in summary["truncation"]]
    assert budgets == sorted(set(budgets))
    assert summary["truncation"][-1]["mean_tokens"] == summary["plain"]["mean_tokens"]
    assert summary["truncation"][-1]["accuracy"] == summary["plain"]["accuracy"] > 0
    for figures in (summary["plain"], *summary["tilts"], *summary["truncation"], *summary["baselines"].values()):
        for name in ("mean_tokens", "accuracy"):
            low, high = figures[f"{name}_interval"]
            assert low <= figures[name] <= high
    assert summary["mean_length_is_monotone"] in (True, False)
    names = {
        "summary.json",
        "table.md",
        "length_against_accuracy.png",
        "length_against_accuracy.svg",
        "blocks",
        "tensorboard",
    }
    assert {p.name for p in tmp_path.iterdir()} == names
    assert len(list((tmp_path / "blocks").iterdir())) == 5
    printed = capsys.readouterr().out
    assert "tilt -20" in printed
    assert f"Done. Everything is under {tmp_path}" in printed
    with pytest.raises(InputError, match=r"plain\.parquet was made with `sampling\.seed` 0, but now it is 3"):
        tradeoff(
            tmp_path, value_model=value_model, **SMALL | {"sampling": SamplingSettings(max_tokens=48, top_k=8, seed=3)}
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"betas": (0,)}, "give at least one strength in `betas` that is not 0"),
        ({"budgets": (0, 4)}, r"`budgets` must be at least 1 token, got \[0, 4\]"),
        (
            {"baselines": {"forced": ForcedLength()}},
            "the baseline 'forced' needs a target length, but here there is none",
        ),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], sentence: str, tmp_path: Path, value_model: str) -> None:
    with pytest.raises(InputError, match=sentence):
        tradeoff(tmp_path, value_model=value_model, **SMALL | options)


def test_prompts_without_a_grader_are_refused(tmp_path: Path, value_model: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "What is 3+4?", "domain": "history", "reference": "7"}\n')
    with pytest.raises(InputError, match="1 of 1 prompts have no answer that can be graded"):
        tradeoff(tmp_path, value_model=value_model, task=str(file), **SMALL | {"prompts": None})

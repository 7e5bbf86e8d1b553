from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lenvm.cli.main import main
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.prompt_set import PromptSet
from lenvm.decoding.rules import Tilt
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.blocks import Block
from lenvm.evaluation.methods import AbstractMethod, AskForLength, ForcedLength, Guided, LengthPenalty, Plain
from lenvm.evaluation.overlap import training_prompts_known
from lenvm.evaluation.setup import load_setup
from lenvm.evaluation.tradeoff import tradeoff
from lenvm.evaluation.tradeoff.comparison import Tradeoff
from lenvm.evaluation.tradeoff.outcomes import Outcome, cut, written
from lenvm.evaluation.tradeoff.results import write_tradeoff
from lenvm.playground import POLICY_FOLDER
from lenvm.tasks import GSM8K

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


def test_a_budget_by_hand() -> None:
    # prompt, length, ended, right
    block = block_of([(0, 4, True, True), (0, 10, True, True), (1, 6, True, False), (1, 12, False, True)])
    right = np.array([True, True, False, False])
    plain = written("plain", "", block, right, [1, 2])
    assert (plain.tokens, plain.accuracy, plain.natural_end, plain.nll_per_token) == (8.0, 0.5, 0.75, 0.5)
    assert plain.pass_at[2].tolist() == [1.0, 0.0]
    expected = {  # budget: tokens, accuracy, share that had ended, Pass@2
        3: (3.0, 0.0, 0.0, 0.0),
        4: (4.0, 0.25, 0.25, 0.5),
        6: ((4 + 6 + 6 + 6) / 4, 0.25, 0.5, 0.5),
        10: ((4 + 10 + 6 + 10) / 4, 0.5, 0.75, 0.5),
        99: (8.0, 0.5, 0.75, 0.5),
    }
    for budget, figures in expected.items():
        found = cut("budget", budget, block, right, [1, 2])
        assert (found.tokens, found.accuracy, found.natural_end, found.pass_at[2].mean()) == figures
        assert found.name == f"budget {budget}"


def outcome(method: str, strength: str, tokens: float, accuracy: float) -> Outcome:
    # ten prompts around the mean length, of which some are always right
    lengths = tokens + np.linspace(-1, 1, 10) * (1 + 0.1 * np.arange(10))
    rights = np.r_[np.ones(round(10 * accuracy)), np.zeros(10 - round(10 * accuracy))]
    lengths += tokens - lengths.mean()
    return Outcome(
        method=method, strength=strength, lengths=lengths, pass_at={1: rights}, natural_end=1.0, nll_per_token=0.1
    )


def summary_of(tmp_path: Path, tilts: dict[float, tuple[float, float]], budgets: dict[int, float]) -> dict[str, Any]:
    found = Tradeoff(
        plain=outcome("plain", "", 40, 1.0),
        tilts={beta: outcome("tilt", f"{beta:g}", *figures) for beta, figures in tilts.items()},
        budgets={budget: outcome("budget", str(budget), budget, accuracy) for budget, accuracy in budgets.items()},
        baselines={"penalty": [outcome("penalty", "1.1", 20, 0.1), outcome("penalty", "1.2", 15, 0.0)]},
    )
    write_tradeoff(tmp_path, found, pa.table({"method": ["plain"]}), {"task": "none"})
    summary: dict[str, Any] = json.loads((tmp_path / "summary.json").read_text())
    return summary


def test_what_keeps_the_accuracy_is_the_shortest_tilt_above_the_line(tmp_path: Path) -> None:
    tilts = {-9.0: (10, 0.9), -5.0: (20, 1.0), -2.0: (30, 1.0), 2.0: (35, 1.0)}
    summary = summary_of(tmp_path, tilts, {12: 0.5, 38: 1.0})
    assert summary["tokens_at_97_percent_accuracy"] == pytest.approx(0.5)
    assert summary["beta_at_97_percent_accuracy"] == -5
    assert summary["budget_tokens_at_97_percent_accuracy"] == pytest.approx(38 / 40)
    # from 40 to 35 tokens, at a larger beta
    assert summary["mean_length_is_monotone"] is False
    # 18 tokens are between 10 and 20, and between 12 and 38
    assert summary["accuracy_at_45_percent"]["tilt"] == pytest.approx(0.98)
    assert summary["accuracy_at_45_percent"]["budget"] == pytest.approx(0.5 + 0.5 * 6 / 26)
    assert summary["accuracy_at_45_percent"]["penalty"] == pytest.approx(0.06)
    table = (tmp_path / "table.md").read_text()
    assert "| tilt | -9 | 10.0 (" in table
    assert "| at 45% of the tokens |" in table
    del tilts[2.0]
    summary = summary_of(tmp_path, tilts, {30: 0.5})
    assert summary["mean_length_is_monotone"] is True
    assert summary["budget_tokens_at_97_percent_accuracy"] is None
    assert summary["accuracy_at_45_percent"]["budget"] is None
    assert "none: not below 75.0% of the plain length" in (tmp_path / "table.md").read_text()


def test_a_sweep_on_the_playground(tmp_path: Path, value_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    penalties: dict[str, AbstractMethod] = {f"{f:g}": LengthPenalty(start=0, factor=f) for f in (1.02, 1.2)}
    baselines = {"brief": AskForLength(template="Be brief."), "penalty": penalties}
    tradeoff(tmp_path, value_model=value_model, baselines=baselines, **SMALL)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [tilt["beta"] for tilt in summary["tilts"]] == [-20, 0, 3]
    assert summary["tilts"][1]["mean_tokens"] == summary["plain"]["mean_tokens"]
    assert [outcome["strength"] for outcome in summary["baselines"]["penalty"]] == ["1.02", "1.2"]
    assert len(summary["baselines"]["brief"]) == 1
    budgets = [cut["budget"] for cut in summary["budgets"]]
    assert budgets == sorted(set(budgets))
    assert summary["budgets"][-1]["mean_tokens"] == summary["plain"]["mean_tokens"]
    assert summary["budgets"][-1]["accuracy"] == summary["plain"]["accuracy"] > 0
    everything = [summary["plain"], *summary["tilts"], *summary["budgets"], *summary["baselines"]["penalty"]]
    for figures in everything:
        for name in ("mean_tokens", "accuracy"):
            low, high = figures[f"{name}_interval"]
            assert low <= figures[name] <= high
        assert figures["pass_at_k"]["1"] == figures["accuracy"] <= figures["pass_at_k"]["2"]
    assert (summary["training_prompts_known"], summary["too_long_prompts"]) == (False, 0)
    figures = {f"{name}.{kind}" for name in ("length_against_accuracy", "pass_at_k") for kind in ("png", "svg")}
    others = {"summary.json", "table.md", "completions.parquet", "blocks", "grades", "tensorboard"}
    assert {p.name for p in tmp_path.iterdir()} == figures | others
    assert len(list((tmp_path / "blocks").iterdir())) == len(list((tmp_path / "grades").iterdir())) == 6
    rows = pq.read_table(tmp_path / "completions.parquet").to_pylist()
    assert len(rows) == 6 * 4 * 2
    # the mean length never falls by more than a standard error from one beta to the next
    lengths = np.array(
        [
            np.reshape([r["length"] for r in rows if (r["method"], r["strength"]) == name], (4, 2)).mean(axis=1)
            for name in (("tilt", "-20"), ("plain", ""), ("tilt", "3"))
        ]
    )
    falls = -np.diff(lengths, axis=0)
    errors = falls.std(axis=1, ddof=1) / np.sqrt(4)
    assert summary["mean_length_is_monotone"] is bool((falls.mean(axis=1) <= errors).all())
    penalised = [row for row in rows if (row["method"], row["strength"]) == ("penalty", "1.2")]
    assert np.mean([row["correct"] for row in penalised]) == summary["baselines"]["penalty"][1]["accuracy"]
    assert np.mean([row["length"] for row in penalised]) == summary["baselines"]["penalty"][1]["mean_tokens"]
    printed = capsys.readouterr().out
    assert "area below tilt" in printed
    assert printed.count(f"the training prompts of {value_model} are unknown: not checked.") == 1
    assert f"Done. Everything is under {tmp_path}" in printed
    with pytest.raises(InputError, match=r"plain\.parquet was made with `sampling\.seed` 0, but now it is 3"):
        tradeoff(
            tmp_path, value_model=value_model, **SMALL | {"sampling": SamplingSettings(max_tokens=48, top_k=8, seed=3)}
        )


def test_what_is_there_is_not_written_or_graded_again(tmp_path: Path, value_model: str) -> None:
    tradeoff(tmp_path, value_model=value_model, **SMALL)
    files = {path: path.stat().st_mtime_ns for kind in ("blocks", "grades") for path in (tmp_path / kind).iterdir()}
    summary = (tmp_path / "summary.json").read_text()
    removed = {tmp_path / "blocks" / "tilt_3.parquet", tmp_path / "grades" / "tilt_-20.json"}
    for path in removed:
        path.unlink()
    tradeoff(tmp_path, value_model=value_model, **SMALL)
    assert {path for path, time in files.items() if path.stat().st_mtime_ns != time} == removed
    assert (tmp_path / "summary.json").read_text() == summary


@pytest.mark.slow
def test_families_are_read_from_yaml_and_from_the_command_line(tmp_path: Path, value_model: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        """
        prompts: 3
        num_samples: 1
        betas: [-5]
        sampling: {top_k: 8, max_tokens: 24}
        baselines:
          brief: {class_path: lenvm.evaluation.methods.AskForLength, init_args: {template: Be brief.}}
          penalty:
            1.02: {class_path: lenvm.evaluation.methods.LengthPenalty, init_args: {start: 0, factor: 1.02}}
            "strong": {class_path: lenvm.evaluation.methods.LengthPenalty, init_args: {start: 0, factor: 1.5}}
        """
    )
    common = ["evaluate", "tradeoff", "--config", str(recipe), "--value_model", value_model, "--output"]
    assert main([*common, str(tmp_path / "yaml")]) == 0
    baselines = json.loads((tmp_path / "yaml" / "summary.json").read_text())["baselines"]
    assert [outcome["strength"] for outcome in baselines["penalty"]] == ["1.02", "strong"]
    assert [outcome["strength"] for outcome in baselines["brief"]] == [""]
    given = json.dumps({"words": {"short": {"class_path": "AskForLength", "init_args": {"template": "Short!"}}}})
    assert main([*common, str(tmp_path / "line"), "--baselines", given]) == 0
    assert list(json.loads((tmp_path / "line" / "summary.json").read_text())["baselines"]) == ["words"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"betas": (0,)}, "give at least one strength in `betas` that is not 0"),
        ({"budgets": (0, 4)}, r"`budgets` must be at least 1 token, got \[0, 4\]"),
        ({"min_room": 0}, "`min_room` must be at least 1 token, got 0"),
        ({"ks": (1, 3)}, r"`ks` must be 1 to 2, the completions per prompt, got \[1, 3\]"),
        ({"baselines": {"tilt": Plain()}}, "a baseline cannot be called 'tilt'"),
        ({"baselines": {"penalty": {}}}, "the baseline 'penalty' must name at least one method"),
        ({"baselines": {"p": {"x": ForcedLength()}}}, "the baseline 'p x' needs a target length"),
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


def test_prompts_have_to_fit_in_the_form_in_which_they_are_sent(
    tmp_path: Path, value_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    setup = load_setup(str(POLICY_FOLDER), value_model, SMALL["sampling"], 1, None, 8)
    # of the value model's 512 tokens, the second question leaves 40
    asked, source = "{question}", tmp_path / "questions"
    fixed = len(RolloutEncoder(setup.tokenizer, setup.prompt_format).encode_prompts([chat("")])[0])
    size = 1
    while len(RolloutEncoder(setup.tokenizer, setup.prompt_format).encode_prompts([chat("z?" * size)])[0]) < 512 - 40:
        size += 1
    assert fixed < 100
    source.mkdir()
    rows = [{"question": text, "answer": "#### 7"} for text in ("What is 3+4?", "z?" * size)]
    (source / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options: dict[str, Any] = {
        "task": GSM8K(source=str(source), template=asked),
        "value_model": value_model,
        "betas": (-5,),
        "num_samples": 1,
        "sampling": SamplingSettings(top_k=8, max_tokens=40),
    }
    kept = {}
    words: dict[str, AbstractMethod] = {"words": AskForLength(template="Be quick. " * 5)}
    runs: dict[str, dict[str, Any]] = {
        "alone": {},
        "with a longer form": {"baselines": words},
        "with less room": {"baselines": words, "min_room": 1},
    }
    for name, more in runs.items():
        tradeoff(tmp_path / name, **options | more)
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        kept[name] = summary["prompts"], summary["too_long_prompts"]
    assert kept == {"alone": (2, 0), "with a longer form": (1, 1), "with less room": (2, 0)}
    assert "1 of 2 prompts leave less than 40 of 512 tokens: left out." in capsys.readouterr().out


def chat(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_it_is_known_what_a_model_was_trained_on(value_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    setup = load_setup(str(POLICY_FOLDER), value_model, SMALL["sampling"], 1, None, 8)
    assert not training_prompts_known(setup, [Plain()])
    setup.model(None).training_prompts = PromptSet.of(["x"]).to_text()
    assert training_prompts_known(setup, [Plain(), Guided(rule=Tilt(beta=1.0), value_model=value_model)])
    assert capsys.readouterr().out == f"the training prompts of {value_model} are unknown: not checked.\n"

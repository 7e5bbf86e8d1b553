from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lenvm.cli.main import main
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.prompt_set import PromptSet
from lenvm.data.tokenizer import load_tokenizer
from lenvm.decoding.generate import Completion
from lenvm.decoding.rules import EqualTo
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.length_control import length_control
from lenvm.evaluation.methods import AbstractMethod, ForcedLength, Guided, Plain, Task
from lenvm.evaluation.prompts import load_prompts
from lenvm.evaluation.setup import Setup, weights_digest
from lenvm.metrics import distinct_n
from lenvm.models import LengthValueModel
from lenvm.playground import POLICY_FOLDER
from lenvm.rollout import load_generator

METHODS: dict[str, AbstractMethod] = {
    "plain": Plain(),
    "hard, tree": Guided(rule=EqualTo(n=1, mode="hard"), scorer="tree"),
    "smooth": Guided(rule=EqualTo(n=1)),
    "min = max": ForcedLength(),
}
SMALL: dict[str, Any] = {
    "prompts": 4,
    "num_samples": 2,
    "targets": (12, 24),
    "sampling": SamplingSettings(top_k=8, max_tokens=48),
}
FIGURES = ("length_score_against_nll", "length_score_against_end_nll")
FILES = {"summary.json", "table.md", "completions.parquet", *(f"{n}.{s}" for n in FIGURES for s in ("png", "svg"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, value_model: str) -> Path:
    output = tmp_path_factory.mktemp("finished") / "out"
    length_control(METHODS, output, value_model=value_model, **SMALL)
    return output


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Prompts that were completed, one entry per call of the generator."""
    calls: list[int] = []
    whole = Setup.stream

    def stream(self: Setup, prompts: list[Any], **options: Any) -> Iterator[Completion]:
        calls.append(len(prompts))
        return whole(self, prompts, **options)

    monkeypatch.setattr(Setup, "stream", stream)
    return calls


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(output / "completions.parquet").to_pylist()
    return rows


def test_everything_is_written(finished: Path) -> None:
    assert {p.name for p in finished.iterdir()} == FILES | {"blocks", "tensorboard"}
    # plain looks at no target, so it is written once
    assert len(list((finished / "blocks").iterdir())) == 1 + 3 * 2
    assert all((finished / f"{name}.png").stat().st_size > 10_000 for name in FIGURES)
    table = (finished / "table.md").read_text()
    assert table.count("| min = max | 100.0 |") == 2
    assert json.loads((finished / "summary.json").read_text())["training_prompts_known"] is False
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


def test_the_summary_is_what_the_completions_say(finished: Path) -> None:
    summary, rows = json.loads((finished / "summary.json").read_text()), rows_of(finished)
    assert len(rows) == 2 * len(METHODS) * 4 * 2
    for target in ("12", "24"):
        assert summary["targets"][target]["prompts"] == 4
        by_method = summary["targets"][target]["methods"]
        assert list(by_method) == list(METHODS)
        for name, found in by_method.items():
            mine = [r for r in rows if r["method"] == name and r["target"] == int(target)]
            length = np.array([r["length"] for r in mine])
            deviation = length / int(target) - 1
            score = 100 * np.exp(np.where(deviation < 0, 5 * deviation, -2 * deviation))
            assert found["length_score"] == pytest.approx(score.mean())
            assert found["length_score_interval"][0] <= found["length_score"] <= found["length_score_interval"][1]
            assert found["deviation"] == pytest.approx(deviation.mean())
            assert found["absolute_deviation"] == pytest.approx(np.abs(deviation).mean())
            assert found["mean_length"] == pytest.approx(length.mean())
            assert found["natural_end"] == np.mean([r["finish_reason"] == "stop" for r in mine])
            nll = sum(r["nll"] for r in mine) / length.sum()
            assert found["nll_per_token"] == pytest.approx(nll)
            assert found["nll_ratio"] == pytest.approx(nll / by_method["plain"]["nll_per_token"])
            assert found["nll_ratio_interval"][0] <= found["nll_ratio"] <= found["nll_ratio_interval"][1]
            assert found["nll_ratio_to_keeping"] is found["nll_ratio_to_keeping_interval"] is None
            ends = [r["end_nll"] for r in mine if r["finish_reason"] == "stop"]
            assert found["end_nll"] == (pytest.approx(np.mean(ends)) if ends else None)
            assert found["accuracy"] == np.mean([r["correct"] for r in mine])
            eos = 3
            assert found["distinct_2"] == distinct_n([[i for i in r["completion_ids"] if i != eos] for r in mine], 2)
            assert found["milliseconds_per_token"] > 0
            assert (found["completions"], found["tokens"]) == (8, length.sum())
        assert by_method["min = max"]["length_score"] == 100.0
        assert by_method["min = max"]["natural_end"] == by_method["min = max"]["accuracy"] == 0.0
        assert by_method["plain"]["nll_ratio"] == 1.0
        assert by_method["plain"]["accuracy"] > 0


def test_prompts_that_were_trained_on_are_refused_unless_one_insists(tmp_path: Path, value_model: str) -> None:
    seen = [prompt.prompt_id for prompt in load_prompts(None, None, 4, 0).rollouts][2:3]
    model = LengthValueModel.from_pretrained(value_model)
    model.training_prompts = PromptSet.of([*seen, "another"]).to_text()
    model.save_pretrained(tmp_path / "model", load_tokenizer(str(POLICY_FOLDER)))
    chosen = {"plain": METHODS["plain"], "own": Guided(rule=EqualTo(n=1), value_model=str(tmp_path / "model"))}
    message = rf"was trained on 1 of the 4 prompts, for example prompt_id '{seen[0]}'; .* insist with `--allow_overlap`"
    with pytest.raises(InputError, match=message):
        length_control(chosen, tmp_path / "out", value_model=value_model, **SMALL)
    assert not (tmp_path / "out").exists()
    length_control(chosen, tmp_path / "out", value_model=value_model, allow_overlap=True, **{**SMALL, "targets": (12,)})


def test_likelihoods_are_the_generators_own(finished: Path) -> None:
    prompts = {p.prompt_id: p for p in load_prompts(None, None, 4, 0).rollouts}
    generator = load_generator(str(POLICY_FOLDER))
    encoder = RolloutEncoder(load_tokenizer(str(POLICY_FOLDER)))
    for row in rows_of(finished)[::9]:
        ids = encoder.encode_prompts([prompts[row["prompt_id"]].prompt or ""])[0]
        whole = torch.tensor([ids + row["completion_ids"]])
        with torch.inference_mode():
            log_probs = generator(whole).logits[0, len(ids) - 1 : -1].log_softmax(-1)
        expected = -log_probs.gather(-1, whole[0, len(ids) :, None]).sum().item()
        assert row["nll"] == pytest.approx(expected, abs=1e-3)
        assert row["end_nll"] == pytest.approx(-log_probs[-1, row["completion_ids"][-1]].item(), abs=1e-3)
        assert json.loads(row["prompt"]) == prompts[row["prompt_id"]].prompt


def test_a_killed_evaluation_goes_on_where_it_stopped(
    finished: Path, tmp_path: Path, value_model: str, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    output = tmp_path / "out"
    killed = ForcedLength.write

    def write(self: ForcedLength, setup: Setup, task: Task) -> Iterator[Completion]:
        for i, completion in enumerate(killed(self, setup, task)):
            if task.target == 24 and i == 3:
                raise KeyboardInterrupt
            yield completion

    with monkeypatch.context() as patch:
        patch.setattr(ForcedLength, "write", write)
        with pytest.raises(KeyboardInterrupt):
            length_control(METHODS, output, value_model=value_model, **SMALL)
    assert not (output / "summary.json").exists()
    assert not list(output.rglob("*.partial"))
    assert len(list((output / "blocks").iterdir())) == 6
    counted.clear()
    length_control(METHODS, output, value_model=value_model, **SMALL)
    assert counted == [4]
    assert rows_of(output) == rows_of(finished)
    counted.clear()
    length_control(METHODS, output, value_model=value_model, **SMALL)
    assert counted == []


def test_new_methods_and_targets_are_added_to_what_is_there(
    finished: Path, tmp_path: Path, counted: list[int], value_model: str
) -> None:
    output = tmp_path / "out"
    few = {"plain": METHODS["plain"], "min = max": METHODS["min = max"]}
    length_control(few, output, value_model=value_model, **SMALL | {"targets": (12,)})
    assert counted == [4, 4]
    length_control(METHODS, output, value_model=value_model, **SMALL)
    assert len(counted) == 7
    assert rows_of(output) == rows_of(finished)


def changed_model(value_model: str, tmp_path: Path) -> str:
    model = LengthValueModel.from_pretrained(value_model)
    with torch.no_grad():
        next(model.head.parameters()).add_(1e-3)
    return str(model.save_pretrained(tmp_path / "changed"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sampling": SamplingSettings(top_k=8, max_tokens=48, seed=1)}, r"`sampling.seed` 0, but now it is 1;"),
        ({"num_samples": 3}, "`num_samples` 2, but now it is 3; choose another folder with `--output`, or remove"),
        ({"prompts": 5}, r"`prompts` 4 \(\w+\), but now it is 5 \(\w+\)"),
    ],
)
def test_other_settings_stop_with_a_sentence(
    finished: Path, value_model: str, counted: list[int], change: dict[str, Any], sentence: str
) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"plain\.parquet was made with " + sentence):
        length_control(METHODS, finished, value_model=value_model, **SMALL | change)
    assert counted == []
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


def test_another_rule_or_value_model_under_the_same_name_stops(
    finished: Path, value_model: str, tmp_path: Path
) -> None:
    other = METHODS | {"hard, tree": Guided(rule=EqualTo(n=1, mode="hard", compare="length"), scorer="tree")}
    sentence = r"hard_tree_12_tokens\.parquet was made with `method` .*compare='value'.*compare='length'"
    with pytest.raises(InputError, match=sentence):
        length_control(other, finished, value_model=value_model, **SMALL)
    with pytest.raises(InputError, match=r"hard_tree_12_tokens\.parquet was made with `value_model`"):
        length_control(METHODS, finished, value_model=changed_model(value_model, tmp_path), **SMALL)


def test_completions_of_other_decoding_code_are_not_mixed_in(
    finished: Path, value_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lenvm.evaluation.setup._code_digest", lambda: "newer")
    with pytest.raises(InputError, match=r"plain\.parquet was made with `decoding code` \w+, but now it is newer;"):
        length_control(METHODS, finished, value_model=value_model, **SMALL)


def test_training_changes_the_digest_of_weights(value_model: str, tmp_path: Path) -> None:
    model = LengthValueModel.from_pretrained(value_model)
    assert weights_digest(model) == weights_digest(LengthValueModel.from_pretrained(value_model))
    changed = LengthValueModel.from_pretrained(changed_model(value_model, tmp_path))
    assert weights_digest(model) != weights_digest(changed)
    assert weights_digest(model) != weights_digest(model.half())


def test_only_prompts_that_plain_completions_reach_are_kept(tmp_path: Path, value_model: str) -> None:
    methods = {name: METHODS[name] for name in ("plain", "min = max")}
    options: dict[str, Any] = SMALL | {"prompts": 12, "constraint": "at_most", "only_reachable": 6}
    length_control(methods, tmp_path, **options | {"targets": (16, 40)})
    blocks = tmp_path / "blocks"
    probe = pq.read_table(next(blocks.glob("plain_completions*"))).to_pylist()
    assert len(probe) == 12 * 6
    summary, rows = json.loads((tmp_path / "summary.json").read_text()), rows_of(tmp_path)
    ids = [p.prompt_id for p in load_prompts(None, None, 12, 0).rollouts]
    for target in (16, 40):
        reach = {ids[r["prompt"]] for r in probe if r["finish_reason"] == "stop" and len(r["completion_ids"]) <= target}
        assert 0 < len(reach) < 12
        assert summary["targets"][str(target)]["prompts"] == len(reach)
        for name in methods:
            kept = [r["prompt_id"] for r in rows if r["target"] == target and r["method"] == name]
            assert sorted(kept) == sorted([*reach, *reach])
    # plain completions that meet the constraint stand beside them, as often per prompt as others
    kept = "plain that keeps to it (of 6)"
    for target in (16, 40):
        mine = [r for r in rows if r["target"] == target and r["method"] == kept]
        assert sorted(r["prompt_id"] for r in mine) == sorted(
            r["prompt_id"] for r in rows if r["target"] == target and r["method"] == "plain"
        )
        assert all(r["length"] <= target and r["finish_reason"] == "stop" for r in mine)
        assert {(ids.index(r["prompt_id"]), *r["completion_ids"]) for r in mine} <= {
            (r["prompt"], *r["completion_ids"]) for r in probe
        }
        found = summary["targets"][str(target)]["methods"]
        assert found[kept]["length_score"] == 100.0
        ratio = found["min = max"]["nll_per_token"] / found[kept]["nll_per_token"]
        assert found["min = max"]["nll_ratio_to_keeping"] == pytest.approx(ratio)
    # what chose the prompts is not what is judged on them
    plain = {tuple(r["completion_ids"]) for r in rows if r["method"] == "plain"}
    assert not plain <= {tuple(r["completion_ids"]) for r in probe}
    with pytest.raises(InputError, match="of none of the 12 prompts, 6 plain completions reach 2 tokens; ask for"):
        length_control(methods, tmp_path, **options | {"targets": (2,)})


def test_texts_without_a_grader_have_no_accuracy(tmp_path: Path, write_json_lines: Callable[..., Path]) -> None:
    file = write_json_lines([{"prompt": "What is 3+4?"}, {"prompt": "Count."}, {"prompt": "Spell it."}])
    length_control({"forced": ForcedLength()}, tmp_path / "a", task=str(file), **SMALL | {"prompts": 2})
    found = json.loads((tmp_path / "a" / "summary.json").read_text())["targets"]["12"]
    assert found["prompts"] == 2
    assert found["methods"]["forced"]["accuracy"] is None
    assert found["methods"]["forced"]["nll_ratio"] is None  # there is no plain sampling to compare with


def test_the_command_reads_a_recipe(tmp_path: Path, value_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = {
        "output": str(tmp_path / "out"),
        "value_model": value_model,
        "prompts": 2,
        "num_samples": 1,
        "targets": [16],
        "sampling": {"top_k": 8, "max_tokens": 32},
        "methods": {
            "plain": {"class_path": "lenvm.evaluation.methods.Plain"},
            "smooth": {
                "class_path": "lenvm.evaluation.methods.Guided",
                "init_args": {"rule": {"class_path": "lenvm.decoding.rules.EqualTo", "init_args": {"n": 64}}},
            },
        },
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["evaluate", "length_control", "--config", str(tmp_path / "recipe.yaml")]) == 0
    printed = capsys.readouterr().out
    assert "equal 16 tokens" in printed
    assert f"Done. Everything is under {tmp_path / 'out'}: completions.parquet, summary.json, table.md" in printed


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"targets": (12, 12)}, r"different targets of 1 or more, got \[12, 12\]"),
        ({"targets": (0,)}, r"different targets of 1 or more, got \[0\]"),
        ({"methods": {}}, "give at least one method"),
        ({"methods": {"a!": Plain(), "A?": Plain()}}, "two methods are called 'a!'"),
        ({"num_samples": 0}, "`num_samples` must be at least 1, got 0"),
        ({"prompts": 0}, "`prompts` must be at least 1, got 0"),
        ({"only_reachable": -1}, "`only_reachable` must be a number of completions, or 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    given = {"methods": {"plain": Plain()}, "output": tmp_path / "out", **SMALL, **options}
    with pytest.raises(InputError, match=sentence):
        length_control(**given)
    assert not (tmp_path / "out").exists()

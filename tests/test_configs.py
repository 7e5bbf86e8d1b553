"""Every committed YAML is parsed into objects by the command that it is for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from lenvm.backbones import AbstractBackbone
from lenvm.cli import lightning
from lenvm.decoding.rules import AbstractRule
from lenvm.evaluation.length_control import length_control
from lenvm.evaluation.length_tokens import length_tokens
from lenvm.evaluation.tradeoff import tradeoff
from lenvm.heads import AbstractHead
from lenvm.rollout.engines import AbstractEngine
from lenvm.rollout.run import rollout
from lenvm.targets import AbstractLengthTarget
from lenvm.tasks import AbstractTask

ROOT = Path(__file__).parent.parent
TRAIN = sorted((ROOT / "experiments" / "train").glob("*.yaml"))
ROLLOUT = sorted((ROOT / "experiments" / "rollout").glob("*.yaml"))
EVALUATE = sorted((ROOT / "experiments" / "evaluate").glob("*.yaml"))
BASES = {
    "backbone": AbstractBackbone,
    "engine": AbstractEngine,
    "head": Callable[[int], AbstractHead],
    "rule": AbstractRule,
    "target": AbstractLengthTarget,
    "task": AbstractTask,
}
BLOCKS = sorted((ROOT / "configs").glob("*/*.yaml"))


@pytest.mark.parametrize("path", [*TRAIN, ROOT / "tests" / "conf" / "fit.yaml"], ids=lambda p: p.stem)
def test_a_training_recipe_parses(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lenvm", "fit", "--config", str(path), "--print_config"])
    with pytest.raises(SystemExit) as stop:
        lightning.LenvmCLI()
    assert stop.value.code == 0
    resolved, written = yaml.safe_load(capsys.readouterr().out), yaml.safe_load(path.read_text())
    for section in ("trainer", "data"):
        for key, value in written[section].items():
            assert resolved[section][key] == value
    backbone = resolved["model"]["backbone"]
    assert backbone == "shared" or backbone["class_path"].startswith("lenvm.backbones.")


@pytest.mark.parametrize("path", ROLLOUT, ids=lambda p: p.stem)
def test_a_rollout_recipe_parses(path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(rollout)
    parsed = parser.parse_path(path)
    assert parsed.sampling.max_tokens > 0
    assert f"lenvm rollout --config experiments/rollout/{path.name}" in path.read_text()
    objects = parser.instantiate(parsed)
    assert isinstance(objects.task, AbstractTask | list)
    assert isinstance(objects.engine, AbstractEngine | str)
    assert str(parsed.output).startswith("results/")


@pytest.mark.parametrize("path", EVALUATE, ids=lambda p: p.stem)
def test_an_evaluation_recipe_parses_and_says_how_it_is_run(path: Path) -> None:
    text = path.read_text()
    evaluation = next((e for e in (tradeoff, length_tokens) if path.stem.startswith(e.__name__)), length_control)
    assert f"lenvm evaluate {evaluation.__name__} --config experiments/evaluate/{path.name}" in text
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(evaluation)
    parsed = parser.parse_path(path)
    if evaluation is not length_tokens:
        methods = parsed.baselines if evaluation is tradeoff else parsed.methods
        assert len(methods) >= 3
        assert all(method.class_path.startswith("lenvm.evaluation.methods.") for method in methods.values())
    assert str(parsed.output).startswith("results/")
    assert parsed.value_model.startswith(str(parsed.output.parent))


@pytest.mark.parametrize("path", BLOCKS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_building_block_names_a_class_of_its_folder(path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("block", type=BASES[path.parent.name])
    parsed = parser.parse_object({"block": yaml.safe_load(path.read_text())})
    assert parsed.block.class_path.startswith("lenvm.")


def test_nothing_committed_is_left_out() -> None:
    checked = {*TRAIN, *ROLLOUT, *EVALUATE, *BLOCKS}
    committed = {p for folder in ("configs", "experiments", "ablations") for p in (ROOT / folder).rglob("*.yaml")}
    assert committed == checked
    assert len(TRAIN) >= 3

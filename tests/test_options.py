"""Options of all commands: what cannot be used is one sentence, and files are opened by who knows what is in them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from lenvm.cli import tasks
from lenvm.cli.main import main
from lenvm.playground import POLICY_FOLDER
from lenvm.rollout.engines import AbstractEngine
from lenvm.rollout.run import EngineName
from lenvm.tasks import AbstractTask, Texts

ROOT = Path(__file__).parent.parent


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the function behind `lenvm rollout`, replaced, was called with."""
    found: dict[str, Any] = {}

    def sample(
        task: AbstractTask | list[str] | str,
        *,
        engine: EngineName | AbstractEngine = "transformers",
        prompts: int | None = None,
        weight: float = 1.0,
        words: list[str] | None = None,
        pairs: dict[str, str] | None = None,
        dry_run: bool = False,
    ) -> None:
        found.update(locals())

    monkeypatch.setattr(tasks, "_load", lambda home: sample)
    return found


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "`lenvm rollout` needs `task`"),
        ("--task x --prompts few", "`prompts` must be a whole number or null, got 'few'"),
        ("--task x --weight much", "`weight` must be a number, got 'much'"),
        ("--task x --words one", "`words` must be a list, as in '[a, b]' or null, got 'one'"),
        ("--task x --pairs one", "`pairs` must be names with values, as in '{a: b}' or null, got 'one'"),
        ("--task x --dry_run perhaps", "`dry_run` must be true or false, got 'perhaps'"),
        ("--task x --nonsense 3", "unrecognized arguments: --nonsense 3"),
        ("--task x --config no.yaml", f"`config`: File does not exist: '{Path.cwd() / 'no.yaml'}'"),
        (
            "--task x --engine vlm",
            "`engine` must be one of 'transformers', 'vllm', 'openai' or the name of a class, got 'vlm'",
        ),
        ("--task x --engine TransformersEngine --engine.batch_size x", "`engine.batch_size` must be a whole number"),
        ("--task x --engine TransformersEngine --engine.batch 3", "`engine.batch` is not an option of this class"),
        ("--task x --engine TransformersEngine --engine.batch_size 0", "`batch_size` must be at least 1, got 0"),
        ("--task x --engine openai --engine.urls [a]", "`engine.urls` is an option of a class, and 'openai' is not"),
        ("--task GSM8k --task.source x", "`task.source` is an option of a class, and 'GSM8k' is not the name of one"),
        ("--task GSM8K --task.sauce x", "`task.sauce` is not an option of this class"),
        ("--task.help Nope", "`task` must name a class, got 'Nope'"),
        ("--task Table", "`task` needs `source`"),
        (
            "--task LIFEBench --task.unit lines",
            "`task.unit` must be one of 'tokens', 'words', 'characters', got 'lines'",
        ),
        ('--task Mixture --task.tasks {"a":{"class_path":"GSM9K"}}', "`task.tasks` must name a class, got 'GSM9K'"),
    ],
)
def test_a_bad_option_is_one_sentence(
    words: str, sentence: str, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollout", *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"lenvm: error: {sentence}")
    assert error.count("\n") == 1
    assert not given


def test_a_text_that_yaml_takes_apart_is_told_of(given: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "--task", "GSM8K", "--task.template", "Q: {question}"]) == 2
    assert "`task.template` must be a text, got " in (error := capsys.readouterr().err)
    assert "give a text with a colon in it in a file with `--config`" in error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "`lenvm` needs `model.backbone`"),
        (["--model.target.gamma", "x"], "`model.target.gamma` must be a number or one of 'auto' or null, got 'x'"),
        (["--nope", "3"], "unrecognized arguments: --nope 3"),
    ],
)
def test_lightnings_commands_do_the_same(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"lenvm: error: {sentence}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(("words", "value"), [(["--dry_run"], True), (["--dry-run", "false"], False), ([], False)])
def test_a_truth_value_may_stand_alone(words: list[str], value: bool, given: dict[str, Any]) -> None:
    assert main(["rollout", *words, "--task", "x"]) == 0
    assert given["dry_run"] is value


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.csv", "prompts.txt"])
def test_a_file_of_prompts_is_not_opened_by_the_parser(name: str, tmp_path: Path, given: dict[str, Any]) -> None:
    file, config = tmp_path / name, tmp_path / "config.yaml"
    file.write_text('{"prompt": "What is 1+1?"}\n{"prompt": "What is 1+2?"}\n')
    assert main(["rollout", "--task", str(file)]) == 0
    assert given.pop("task") == str(file)
    config.write_text(yaml.safe_dump({"task": str(file)}))
    assert main(["rollout", "--config", str(config)]) == 0
    assert given["task"] == str(file)


def test_a_file_of_prompts_is_sampled_row_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "What is 1+1?"}\n{"prompt": "What is 1+1?"}\n')
    words = ["--generator", str(POLICY_FOLDER), "--output", str(tmp_path / "out"), "--task", str(file), "--dry-run"]
    assert main(["rollout", *words]) == 0
    assert "Dry run: 1 prompts of 7 tokens" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["--task {}", "--task={}"])
def test_a_building_block_is_a_task(form: str, given: dict[str, Any]) -> None:
    words = form.format(ROOT / "configs" / "task" / "texts.yaml").split()
    assert main(["rollout", *words, "--task.texts", json.dumps(["Hello"])]) == 0
    assert given["task"] == Texts(texts=["Hello"])


def test_a_whole_recipe_is_no_building_block(given: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "--task", str(ROOT / "experiments" / "rollout" / "playground.yaml")]) == 2
    assert "must name a class by `class_path`" in (error := capsys.readouterr().err)
    assert "a whole recipe goes to `--config`" in error
    assert not given


def test_other_libraries_draw_no_bars_into_files(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")
    for name in names:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    assert main(["rollout", "--task", "x"]) == 0
    assert [os.environ[name] for name in names] == ["1", "1"]

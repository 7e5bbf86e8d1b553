"""`lenvm generate` as a user types it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lenvm.cli.main import main
from lenvm.data.reading import read_rows
from lenvm.data.rollout import parse_rollout
from lenvm.decoding.command import LiveDisplay
from lenvm.decoding.loop import Step
from lenvm.decoding.rules import AbstractRule
from lenvm.models import LengthValueModel
from lenvm.playground import POLICY_FOLDER

GENERATOR = ["--generator", str(POLICY_FOLDER)]
CHATS = [[{"role": "user", "content": text}] for text in ("What is 3+4+5?", "Count from 1 to 4.")]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, action_model: LengthValueModel) -> str:
    """An untrained value model in a folder."""
    return str(action_model.save_pretrained(tmp_path_factory.mktemp("model")))


@pytest.fixture
def prompts(write_json_lines: Callable[..., Path]) -> str:
    rows: list[Any] = [
        {"prompt": CHATS[0], "prompt_id": "sum", "domain": "math", "reference": "12"},
        {"prompt": CHATS[1], "prompt_id": "count"},
    ]
    return str(write_json_lines(rows))


def test_a_rule_steers_and_the_output_is_a_file_of_rollouts(
    saved: str, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], tokenizer: PreTrainedTokenizerBase
) -> None:
    output = tmp_path / "out" / "completions.jsonl"
    words = ["generate", *GENERATOR, "--prompts", prompts, "--value_model", saved, "--num_samples", "3"]
    rule = ["--rule", "lenvm.decoding.rules.EqualTo", "--rule.n", "40", "--sampling.max_tokens", "50"]
    assert main([*words, *rule, "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    rows = [parse_rollout(row.data or {}) for row in read_rows([output])]
    assert [(row.prompt_id, (row.metadata or {})["sample"]) for row in rows] == [
        (name, sample) for name in ("sum", "count") for sample in range(3)
    ]
    kept = [(row.prompt, row.domain, row.reference) for row in rows[2:4]]
    assert kept == [(CHATS[0], "math", "12"), (CHATS[1], None, None)]
    for row in rows:
        ids = row.completion_ids or []
        assert row.completion == tokenizer.decode([i for i in ids if i != 3])
        assert row.finish_reason == ("stop" if ids[-1] == 3 else "length")
        assert len((row.metadata or {})["remaining"]) == len(ids) <= 50
        assert (row.completion or "").split()[0] in shown
        end = "ended by itself" if row.finish_reason == "stop" else "cut by the limit"
        assert f"[{len(ids)} tokens, {end}]" in shown
    assert "6 completions, " in shown
    assert f"Done. The completions are in {output}." in shown.replace("\n", " ").replace("  ", " ")


def test_the_same_words_write_the_same_file_and_another_seed_another(saved: str, prompts: str, tmp_path: Path) -> None:
    words = ["generate", *GENERATOR, "--prompts", prompts, "--value_model", saved, "--sampling.max_tokens", "20"]
    files = [tmp_path / name for name in ("a", "b", "c")]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        more = ["--rule", "Tilt", "--rule.beta", "3", "--sampling.seed", seed, "--output", str(file)]
        assert main([*words, *more]) == 0
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_without_a_value_model_it_writes_plainly(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ["--prompts", '["Count from 1 to 3.", "Spell the word cat."]', "--prompt_format", "chat"]
    output = tmp_path / "plain.jsonl"
    assert main(["generate", *GENERATOR, *given, "--sampling.temperature", "0", "--output", str(output)]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["Count from 1 to 3.", "Spell the word cat."]
    assert all(row["metadata"]["remaining"] == [] for row in rows)
    assert all(row["prompt_ids"][0] == 1 for row in rows)
    shown = capsys.readouterr().out
    assert "Spell the word cat." in shown
    assert "2 completions" in shown


@dataclass(frozen=True, kw_only=True)
class OnlyOne(AbstractRule):
    """A rule as a user writes it: the candidate with the smallest horizon, where so many tokens are written.

    Args:
        after: tokens before it starts.
    """

    after: int = 0

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        best = horizons.masked_fill(~mask, 2.0).argmin(-1, keepdim=True)
        new = torch.full_like(log_probs, -torch.inf).scatter_(-1, best, 0.0)
        return torch.where((generated >= self.after)[:, None], new, log_probs)


def test_a_rule_of_ones_own_is_reached_by_its_class_path(saved: str, prompts: str, tmp_path: Path) -> None:
    words = ["generate", *GENERATOR, "--prompts", prompts, "--value_model", saved, "--sampling.max_tokens", "30"]
    texts = []
    for i, after in enumerate(("0", "500")):
        output = tmp_path / f"{i}.jsonl"
        rule = ["--rule", f"{__name__}.OnlyOne", "--rule.after", after, "--num_samples", "2"]
        assert main([*words, *rule, "--output", str(output)]) == 0
        texts.append([json.loads(line)["completion"] for line in output.read_text().splitlines()])
    always, never = texts
    assert always[0] == always[1]  # nothing is left to chance
    assert always != never
    output = tmp_path / "plain.jsonl"
    assert main([*words, "--num_samples", "2", "--output", str(output)]) == 0
    assert never == [json.loads(line)["completion"] for line in output.read_text().splitlines()]


def test_a_rule_is_read_from_a_yaml_file(saved: str, prompts: str, tmp_path: Path) -> None:
    config = tmp_path / "generate.yaml"
    config.write_text(
        f"generator: {POLICY_FOLDER}\nprompts: {prompts}\nvalue_model: {saved}\nsampling: {{max_tokens: 20}}\n"
        f"rule:\n  class_path: EntropyGate\n  init_args:\n    threshold: 0.1\n"
        f"    rule: {{class_path: EqualTo, init_args: {{n: 12, mode: hard}}}}\noutput: {tmp_path / 'out.jsonl'}\n"
    )
    assert main(["generate", "--config", str(config)]) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rule", "EqualTo", "--rule.n", "0"], "`n` must be a whole number of tokens, at least 1"),
        (["--rule", "Tilt", "--rule.beta", ".inf"], "`beta` must be finite"),
        (["--rule", "EqualTo", "--rule.n", "1"], "the shortest completion that the value model was trained on has 2"),
        (["--rule", "EqualTo", "--rule.n", "2000"], "only 1013 fit into the context and the token limit"),
        (["--value_model", "no/such"], "'no/such' is neither a folder nor a model that the hub gives"),
        (["--value_model", "null", "--rule", "Tilt", "--rule.beta", "1"], "a rule needs a value model"),
        (["--prompts", "nowhere.jsonl"], "nowhere.jsonl does not exist; expected a file or folder of rows"),
        (["--prompts", '[""]'], "empty `prompt`"),
        (["--generator", "no/such"], "could not load a tokenizer from 'no/such'"),
        (["--sampling.top_p", "2"], "`top_p` must be in (0, 1], got 2.0"),
        (["--num_samples", "0"], "`num_samples` and `batch_size` must be at least 1, got 0 and 64"),
        (["--output", "."], "`output` . is a folder; give the name of a file"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(
    saved: str, prompts: str, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*GENERATOR, "--prompts", prompts, "--value_model", saved, "--sampling.max_tokens", "4000"]
    assert main(["generate", *given, *words]) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert "Traceback" not in shown.err
    assert "completions," not in shown.out


def test_help_explains_the_options_and_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for expected in (
        "how predicted lengths steer",
        "lenvm.decoding.rules.EqualTo",
        "--rule.help EqualTo",
        "--sampling.temperature",
        "`auto` takes the cheap one",
        "a JSON Lines file for the completions",
    ):
        assert expected in shown
    with pytest.raises(SystemExit):
        main(["generate", "--rule.help", "EqualTo"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "tokens that the completion shall have, EOS included" in shown


def shown(display: LiveDisplay) -> str:
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(display)
    return console.export_text()


def test_on_a_terminal_it_shows_what_it_is_writing(
    saved: str, prompts: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["generate", *GENERATOR, "--prompts", prompts, "--value_model", saved, "--sampling.max_tokens", "9"]
    assert main(words) == 0
    assert "to come" not in capsys.readouterr().out
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert main(words) == 0
    written = capsys.readouterr().out
    assert "1 written" in written
    assert "to come" in written


def test_the_display_shows_words_counts_and_what_is_to_come(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = ["The answer is 12", "one\ntwo"]
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    display = LiveDisplay(tokenizer, 8)
    for t in range(max(map(len, ids))):
        here = [row for row in (0, 1) if t < len(ids[row])]
        display(Step([row + 3 for row in here], [ids[row][t] for row in here], [40.4 - t for _ in here]))

    text = shown(display)
    assert f"{len(ids[0])} written" in text
    assert f"{40.4 - len(ids[0]) + 1:.0f} to come" in text
    assert "The answer is 12" in text
    assert "one two" in text
    assert "0/8" in text
    display.finish(3)
    text = shown(display)
    assert "The answer" not in text
    assert "one two" in text
    assert "1/8" in text


def test_the_display_shows_nothing_to_come_without_a_value_model(tokenizer: PreTrainedTokenizerBase) -> None:
    display = LiveDisplay(tokenizer, 1)
    display(Step([0], tokenizer("Hello").input_ids[:1], None))
    text = shown(display)
    assert "1 written" in text
    assert "to come" not in text
    assert "/1" not in text  # no bar for a single completion

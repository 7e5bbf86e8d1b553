from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nasty import NASTY

from lenvm.cli.main import main
from lenvm.playground import POLICY_FOLDER

Embedded = Callable[[str], dict[str, Any]]


def view(*options: object) -> int:
    return main(["view", *map(str, options)])


def test_rollouts_become_one_page_that_asks_for_nothing(
    model_folder: Path, nasty_rollouts: Path, tmp_path: Path, embedded: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "page.html"
    assert view("--value_model", model_folder, "--rollouts", nasty_rollouts, "--output", output) == 0
    assert f"The page is {output}: 3 completions, prompts: 2." in capsys.readouterr().out
    html = output.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", html)
    assert "@import" not in html
    assert "connect-src 'none'" in html
    data = embedded(html)
    assert [p["id"] for p in data["prompts"]] == ["nasty", "plain"]
    assert data["prompts"][0]["text"] == "Say </textarea> & <i>"
    assert data["prompts"][1]["text"] == "Count."
    first, cut = data["prompts"][0]["completions"]
    assert "".join(text for text, _, special in first["pieces"] if not special) == NASTY
    assert first["pieces"][-1][2] == 1
    assert (first["finished"], cut["finished"], cut["remaining"]) == (True, False, None)


def test_no_markup_of_a_completion_reaches_the_page(model_folder: Path, nasty_rollouts: Path, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    view("--value_model", model_folder, "--rollouts", nasty_rollouts, "--output", output)
    html = output.read_text(encoding="utf-8")
    assert html.count("</script>") == 2
    for part in ("alert(1)</", "<b>\\", "<!--", "</textarea>", "<u>"):
        assert part not in html


def test_prompts_and_samples_are_limited_and_one_prompt_can_be_chosen(
    model_folder: Path, rollout_file: Path, tmp_path: Path, embedded: Embedded
) -> None:
    output, common = tmp_path / "page.html", ["--value_model", model_folder, "--rollouts", rollout_file]
    assert view(*common, "--prompts", 3, "--samples", 2, "--output", output) == 0
    prompts = embedded(output.read_text(encoding="utf-8"))["prompts"]
    assert [len(p["completions"]) for p in prompts] == [2, 2, 2]
    assert view(*common, "--prompt_id", prompts[2]["id"], "--output", output) == 0
    (chosen,) = embedded(output.read_text(encoding="utf-8"))["prompts"]
    assert (chosen["id"], len(chosen["completions"])) == (prompts[2]["id"], 3)


def test_a_generator_writes_what_is_shown(model_folder: Path, tmp_path: Path, embedded: Embedded) -> None:
    output = tmp_path / "page.html"
    options = ["--value_model", model_folder, "--generator", POLICY_FOLDER, "--prompt", "What is 3+4?"]
    assert view(*options, "--samples", 2, "--sampling.max_tokens", 40, "--output", output) == 0
    (prompt,) = embedded(output.read_text(encoding="utf-8"))["prompts"]
    assert prompt["text"] == "What is 3+4?"
    assert [len(c["predicted"]) == len(c["ids"]) + 1 for c in prompt["completions"]] == [True, True]


def test_rows_that_cannot_be_used_are_counted(
    model_folder: Path,
    write_json_lines: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = write_json_lines(["{", {"prompt": "a", "completion": "b"}])
    assert view("--value_model", model_folder, "--rollouts", rows, "--output", tmp_path / "page.html") == 0
    assert "1 rows could not be used and were skipped." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "expected either `rollouts` or a `generator` with a `prompt`, got neither; give one of them."),
        (["--rollouts", "GOOD", "--generator", "g"], "expected either `rollouts` or .* got both; give one of them."),
        (["--rollouts", "nowhere.jsonl"], "expected rollouts at nowhere.jsonl, found nothing there; check the path."),
        (["--rollouts", "GOOD", "--stream"], "`stream` needs a generator that writes, .* give `generator` instead"),
        (["--rollouts", "GOOD", "--prompt", "a"], "`prompt` needs a generator that writes"),
        (["--rollouts", "GOOD", "--samples", "0"], "`prompts` and `samples` must be at least 1, got 8 and 0."),
        (["--rollouts", "GOOD", "--prompt_id", "p"], "no completion in .* has the prompt_id 'p'; see the column"),
        (["--rollouts", "BAD"], "no completion in .* can be shown; the first problem is at .*:1: no `completion`"),
        (["--generator", "g"], "the generator needs something to answer; give a text as `prompt`."),
        (["--rollouts", "GOOD", "--output", "FOLDER"], "`output` .* is a folder; give the name of a file"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str],
    sentence: str,
    model_folder: Path,
    nasty_rollouts: Path,
    write_json_lines: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"GOOD": nasty_rollouts, "BAD": write_json_lines([{"prompt": "a"}], "bad.jsonl"), "FOLDER": tmp_path}
    output = [] if "--output" in options else ["--output", tmp_path / "page.html"]
    assert view("--value_model", model_folder, *(names.get(o, o) for o in options), *output) == 2
    error = capsys.readouterr().err
    assert re.match(f"lenvm: error: {sentence}", error), error
    assert error.count("\n") == 1


def test_another_tokenizer_than_that_of_training_is_one_sentence(
    model_folder: Path, nasty_rollouts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in model_folder.glob("*token*"):
        text = file.read_text(encoding="utf-8")
        (other / file.name).write_text(text.replace("<|end|>", "<|fin|>"), encoding="utf-8")
    options = ["--value_model", model_folder, "--rollouts", nasty_rollouts, "--tokenizer", other]
    assert view(*options, "--output", tmp_path / "page.html") == 2
    assert "their token ids mean different things" in capsys.readouterr().err


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        view("--help")
    shown = capsys.readouterr().out
    for option in ("value_model", "rollouts", "generator", "prompt", "prompts", "samples", "prompt_id", "sampling.seed",
                   "tokenizer", "prompt_format", "output", "stream", "port", "wait"):  # fmt: skip
        assert re.search(rf"--{re.escape(option)} [^\n]*\n? *[a-z`A-Z]", shown), option

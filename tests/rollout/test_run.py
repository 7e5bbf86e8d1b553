from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lenvm.data.reading import read_rows
from lenvm.data.rollout import Rollout, parse_rollout
from lenvm.errors import InputError
from lenvm.playground import POLICY_FOLDER
from lenvm.rollout import SamplingSettings
from lenvm.rollout.run import rollout

GENERATOR, SHORT = str(POLICY_FOLDER), SamplingSettings(max_tokens=12)


def read(path: Path) -> list[Rollout]:
    return [parse_rollout(row.data or {}) for row in read_rows([path])]


def test_every_prompt_gets_its_samples_and_keeps_what_is_known_of_it(
    tmp_path: Path, write_json_lines: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    chat = [{"role": "user", "content": "Count from 1 to 3."}]
    asked: list[dict[str, Any]] = [
        {"prompt": chat, "prompt_id": "a", "domain": "instruction", "reference": "1,2,3"},
        {"prompt": "What is 1+1?", "completion": "is not taken over", "something": "else"},
        {"prompt": chat, "prompt_id": "a"},
    ]
    output = tmp_path / "out" / "rollouts.parquet"
    rollout(GENERATOR, write_json_lines(asked), output, num_samples=3, sampling=SHORT)
    rows = read(output)
    assert sorted((row.metadata or {})["sample"] for row in rows) == [0, 0, 1, 1, 2, 2]
    known = [row for row in rows if row.prompt_id == "a"]
    assert len(known) == 3
    assert all((row.prompt, row.domain, row.reference) == (chat, "instruction", "1,2,3") for row in known)
    assert all(1 <= len(row.completion_ids or []) <= 12 for row in rows)
    assert f"Done. 6 completions, {sum(len(r.completion_ids or []) for r in rows)} tokens" in capsys.readouterr().out


def test_texts_can_be_given_directly_and_asked_as_chat(tmp_path: Path) -> None:
    output = tmp_path / "rollouts.parquet"
    rollout(
        GENERATOR,
        ["Spell the word cat.", "Spell the word cat."],
        output,
        num_samples=2,
        sampling=SHORT,
        prompt_format="chat",
    )
    rows = read(output)
    assert len(rows) == 2
    assert {row.prompt for row in rows} == {"Spell the word cat."}
    # <|user|> ... <|assistant|>
    assert {((row.prompt_ids or [])[0], (row.prompt_ids or [])[-1]) for row in rows} == {(1, 2)}


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rollout(GENERATOR, ["Spell the word cat."], tmp_path / name, num_samples=4, sampling=SHORT)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_bad_prompt_is_named_by_file_and_line_and_nothing_is_written(
    tmp_path: Path, write_json_lines: Callable[..., Path]
) -> None:
    output = tmp_path / "rollouts.parquet"
    for bad, message in (("{", "not valid JSON"), ({"text": "x"}, "no `prompt`; present: text")):
        path = write_json_lines([{"prompt": "fine"}, bad])
        with pytest.raises(InputError, match=rf"rows\.jsonl:2: {message}"):
            rollout(GENERATOR, path, output, sampling=SHORT)
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "`num_samples` must be at least 1, got 0"),
        ({"generator": "no/such-model"}, "could not load a tokenizer from 'no/such-model'"),
        ({"prompts": Path("no/such/file.jsonl")}, r"no/such/file\.jsonl does not exist"),
        pytest.param(
            {"prompts": [""]},
            "empty `prompt`",
        ),
    ],
)
def test_options_that_cannot_be_used_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    given = {"generator": GENERATOR, "prompts": ["x"], "output": tmp_path / "out.parquet", "sampling": SHORT, **options}
    with pytest.raises(InputError, match=message):
        rollout(**given)
    assert not (tmp_path / "out.parquet").exists()

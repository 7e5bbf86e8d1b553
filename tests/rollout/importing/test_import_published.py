from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from lenvm.data.rollout import Rollout, prompt_hash
from lenvm.errors import InputError
from lenvm.rollout.importing import Published

Import = Callable[..., list[Rollout]]
Write = Callable[..., Path]
Row = dict[str, Any]


def row(prompt: str = "What is 1+1?", completion: str = "It is 2.", tokens: int = 5, **changes: Any) -> Row:
    return {
        "conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": completion}],
        "meta_info": {
            "answer_token_length": tokens,
            "lenvm_idx": 7,
            "split": "train",
            "dataset_name": "deepmath",
            "model_name": "Qwen2.5-7B",
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": None,
            "max_tokens": 100,
        },
        "source_fields": {"difficulty": 3},
        **changes,
    }


def test_a_group_keeps_its_completions_its_prompt_and_its_facts(
    write_json_lines: Write, run_import: Import, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, second, other = row(), row(completion="2.", tokens=100), row(prompt="What is 2+2?")
    rows = run_import(write_json_lines([first, second, other]))
    assert [r.completion for r in rows] == ["It is 2.", "2.", "It is 2."]
    assert rows[0].prompt == [{"role": "user", "content": "What is 1+1?"}]
    assert [r.finish_reason for r in rows] == ["stop", "length", "stop"]
    assert [r.domain for r in rows] == ["deepmath"] * 3
    assert rows[0].metadata == {**first["meta_info"], "source_fields": {"difficulty": 3}}
    assert rows[0].prompt_ids is None
    # lenvm_idx is 7 in all of them: it is the prompt that holds rows together
    assert [r.prompt_id for r in rows] == [prompt_hash(r.prompt or "") for r in rows]
    assert rows[0].prompt_id == rows[1].prompt_id != rows[2].prompt_id
    shown = capsys.readouterr().out
    assert "rows.jsonl is read as `published`: the published conversations" in shown
    assert f"Done. 3 completions of 2 prompts are in {tmp_path / 'out'}; 33.3% were cut by the limit." in shown


def test_a_conversation_keeps_system_and_earlier_turns(write_json_lines: Write, run_import: Import) -> None:
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Ho"},
        {"from": "human", "value": "1+1?"},
        {"from": "gpt", "value": "2"},
    ]
    (found,) = run_import(write_json_lines([row(conversations=turns)]))
    assert isinstance(found.prompt, list)
    assert [m["role"] for m in found.prompt] == ["system", "user", "assistant", "user"]
    assert found.completion == "2"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz", "rows.jsonl.gz"])
def test_arrays_and_gzip_hold_the_same(tmp_path: Path, run_import: Import, name: str, indent: int | None) -> None:
    rows = [row(completion=f"It is {i}.") for i in range(5)]
    text = "\n".join(map(json.dumps, rows)) if ".jsonl" in name else json.dumps(rows, indent=indent)
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert [r.completion for r in run_import(path)] == [f"It is {i}." for i in range(5)]


def _without(data: Row, *path: str) -> Row:
    data = deepcopy(data)
    inner = data
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return data


def _turns(*turns: Any) -> Row:
    return row(conversations=list(turns))


HUMAN, GPT = {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{damaged", "not valid JSON"),
        ([1, 2], "expected a JSON object, got list"),
        (_without(row(), "conversations"), "`conversations` must be a list of turns, got None"),
        (row(conversations="Hi"), "`conversations` must be a list of turns, got 'Hi'"),
        (_turns(), "0 messages are too few"),
        (_turns(GPT), "1 messages are too few"),
        (_turns(HUMAN, HUMAN), "the last turn of `conversations` must be the assistant's, got 'user'"),
        (_turns(HUMAN, {"from": "gpt"}), "needs the texts `from` and `value`"),
        (_turns(HUMAN, {"from": "gpt", "value": 3}), "needs the texts `from` and `value`"),
        (_turns(HUMAN, "Ho"), "needs the texts `from` and `value`, got 'Ho'"),
        (_turns({"from": "tool", "value": "x"}, GPT), "must be from human, system, gpt, got 'tool'"),
        (_without(row(), "meta_info"), "`meta_info` must be an object, got None"),
        (row(meta_info=[1]), r"`meta_info` must be an object, got \[1\]"),
        (row(source_fields=[1]), r"`source_fields` must be an object, got \[1\]"),
        (_without(row(), "meta_info", "answer_token_length"), "`meta_info.answer_token_length` must be a number"),
        (row(tokens=-1), "`meta_info.answer_token_length` must be a number of tokens, got -1"),
        (row(tokens="5"), "`meta_info.answer_token_length` must be a number of tokens, got '5'"),  # type: ignore[arg-type]
        (_without(row(), "meta_info", "max_tokens"), "`meta_info.max_tokens` must be a number of tokens, got None"),
        (row(completion="", tokens=100), "empty `completion` that was cut"),
        (row(tools=[{"name": "f"}]), "`tools` beside `conversations` is not understood"),
        (row(completion="\ud800"), "not valid Unicode"),
        (row(images="a.png"), "`images` must be a list of paths, got 'a.png'"),
        (row(images=[3]), r"`images` must be a list of paths, got \[3\]"),
        (row(images=["no.png"]), r"an image does not exist: .*/no\.png; `--image_folder` says"),
    ],
)
def test_a_bad_row_is_named_or_skipped(
    write_json_lines: Write,
    run_import: Import,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    bad: Any,
    reason: str,
) -> None:
    lines = [row(), json.dumps(bad) if isinstance(bad, list | dict) else bad, row()]
    path = write_json_lines(lines)
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: .*{reason}.*--on_bad_row skip"):
        run_import(path)
    assert not (tmp_path / "out").exists()
    assert len(run_import(path, on_bad_row="skip")) == 2
    assert "1 bad row was skipped; the first: " in capsys.readouterr().out


def test_rows_without_a_limit_can_be_given_one(write_json_lines: Write, run_import: Import) -> None:
    lines = [_without(row(tokens=tokens), "meta_info", "max_tokens") for tokens in (4, 5)]
    rows = run_import(write_json_lines(lines), format=Published(max_tokens=5))
    assert [r.finish_reason for r in rows] == ["stop", "length"]


def test_image_paths_are_relative_to_the_output(write_json_lines: Write, run_import: Import, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").touch()
    images = ["pictures/1.png", str(tmp_path / "pictures" / "1.png"), "https://example.org/1.png"]
    (found,) = run_import(write_json_lines([row(images=images)]))
    assert found.images == ["../pictures/1.png", "../pictures/1.png", "https://example.org/1.png"]
    assert (tmp_path / "out" / found.images[0]).is_file()


def test_image_paths_may_be_relative_to_another_folder(
    write_json_lines: Write, run_import: Import, tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").touch()
    rows = run_import(write_json_lines([row(images=["1.png"]), row(images=[])]), image_folder=tmp_path / "pictures")
    assert [r.images for r in rows] == [["../pictures/1.png"], None]

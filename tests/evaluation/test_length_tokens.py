from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from lenvm.cli.main import main
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.prompt_set import PromptSet
from lenvm.data.reading import read_rows
from lenvm.data.rollout import BadRowError, Rollout, parse_rollout
from lenvm.data.tokenizer import fingerprint
from lenvm.data.writing import write_rollouts
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.length_tokens import length_tokens
from lenvm.evaluation.length_tokens import parts as shift_parts
from lenvm.evaluation.length_tokens.scoring import ReadCompletion, token_shifts
from lenvm.models import LengthValueModel

SMALL: dict[str, Any] = {"rows_per_part": 32, "batch_size": 8, "threshold": 1e-4, "min_count": 1}
WRITTEN = {"summary.json", "table.md", "tokens.parquet", "word_clouds.png", "word_clouds.svg", "tensorboard", "parts"}


@pytest.fixture
def id_file(rollout_file: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    """The rows of `rollout_file` with token ids, the first of them cut."""
    rollouts = [parse_rollout(row.data or {}) for row in read_rows([rollout_file])]
    rows: list[Rollout] = []
    for rollout, encoded in zip(rollouts, RolloutEncoder(tokenizer).encode(rollouts), strict=True):
        assert not isinstance(encoded, BadRowError)
        rows.append(replace(rollout, prompt=None, completion=None, **encoded._asdict()))
    rows[0] = replace(rows[0], completion_ids=(rows[0].completion_ids or [])[:-3], finish_reason="length")
    return write_rollouts(rows, tmp_path / "ids" / "rows.parquet", facts={"tokenizer": fingerprint(tokenizer)})


def summary(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return found


def test_statistics_of_a_file_are_those_of_all_its_tokens(
    id_file: Path, value_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    length_tokens(value_model, output, rollouts=id_file.parent, **SMALL)
    assert {path.name for path in output.iterdir()} == WRITTEN
    assert len(list((output / "parts").glob("part-*.parquet"))) == 3
    printed = capsys.readouterr().out
    assert "Tokens that make answers longer" in printed
    assert f"Done. Everything is under {output}" in printed

    model = LengthValueModel.from_pretrained(value_model)
    ids, shifts = [], []
    for row in pq.read_table(id_file).to_pylist():
        finished = row["finish_reason"] == "stop"
        read = ReadCompletion(row["prompt_ids"], row["completion_ids"], finished)
        ids += row["completion_ids"]
        shifts += token_shifts(model, [read], [])[0].tolist()
    tokens, by_id = np.array(ids), np.array(shifts)
    table = {row["token_id"]: row for row in pq.read_table(output / "tokens.parquet").to_pylist()}
    assert set(table) == set(ids)
    for token, row in table.items():
        mine = by_id[tokens == token]
        assert row["count"] == len(mine)
        assert row["mean"] == pytest.approx(mine.mean(), abs=1e-6)
        assert row["sd"] == pytest.approx(mine.std(ddof=1) if len(mine) > 1 else 0, abs=1e-6)
        for side, sign in (("above", 1), ("below", -1)):
            assert row[side] == pytest.approx((sign * mine > SMALL["threshold"]).sum(), abs=1)
            assert row[f"share_{side}"] == row[side] / row["count"]
        if row["longer"]:
            assert row["longer"][0]["shift"] == pytest.approx(mine.max(), abs=1e-6)
        if row["shorter"]:
            assert row["shorter"][0]["shift"] == pytest.approx(mine.min(), abs=1e-6)

    found = summary(output)
    assert (found["rollouts"], found["tokens"], found["tokens_beyond_context"]) == (90, len(ids), 0)
    assert found["thresholds"] == [-1e-4, 1e-4]
    for side, sign in (("longer", 1), ("shorter", -1)):
        assert 0 < len(found[side]) <= 50
        assert all(sign * row["mean"] > 1e-4 and not row["token"].startswith("<|") for row in found[side])
        events = [row["events"] for row in found[side]]
        assert events == sorted(events, reverse=True)
    markdown = (output / "table.md").read_text()
    assert "## Tokens that make answers shorter" in markdown
    assert all(line.replace(r"\|", "").count("|") == 8 for line in markdown.splitlines() if line.startswith("|"))
    assert "<svg" in (output / "word_clouds.svg").read_text()
    assert len(list((output / "tensorboard").glob("events.*"))) == 1


def test_text_rows_are_read_like_their_token_ids(
    rollout_file: Path, id_file: Path, value_model: str, tmp_path: Path
) -> None:
    # the first row of the id file is cut
    lines = rollout_file.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(lines), encoding="utf-8")
    ids = write_rollouts([parse_rollout(row.data or {}) for row in read_rows([id_file])][1:], tmp_path / "x.parquet")
    for name, source in (("texts", texts), ("ids", ids)):
        length_tokens(value_model, tmp_path / name, rollouts=source, **SMALL)
    assert summary(tmp_path / "texts") == summary(tmp_path / "ids")


def test_a_killed_run_goes_on_and_ends_the_same(
    id_file: Path, value_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    length_tokens(value_model, tmp_path / "whole", rollouts=id_file, **SMALL)
    scored: list[int] = []
    score = shift_parts.ShiftScoring.score

    def counting(self: shift_parts.ShiftScoring, rows: Any) -> Any:
        if len(scored) == 2:
            scored.append(0)
            raise KeyboardInterrupt
        scored.append(len(rows))
        return score(self, rows)

    monkeypatch.setattr(shift_parts.ShiftScoring, "score", counting)
    output = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        length_tokens(value_model, output, rollouts=id_file, **SMALL)
    (output / "parts" / "part-000002.parquet.partial").write_bytes(b"half")
    length_tokens(value_model, output, rollouts=id_file, **SMALL)
    assert scored == [32, 32, 0, 26]
    assert summary(output) == summary(tmp_path / "whole")
    # how tables look is no reason to score again, what is scored is
    length_tokens(value_model, output, rollouts=id_file, **SMALL | {"min_count": 4, "batch_size": 3})
    assert len(scored) == 4
    with pytest.raises(InputError, match=r"`threshold` 0\.0001, but now it is 0\.01; choose another"):
        length_tokens(value_model, output, rollouts=id_file, **SMALL | {"threshold": 0.01})
    with pytest.raises(InputError, match="parts was made with `max_rollouts` None, but now it is 5"):
        length_tokens(value_model, output, rollouts=id_file, max_rollouts=5, **SMALL)
    rows = [parse_rollout(row.data or {}) for row in read_rows([id_file])]
    write_rollouts([*rows, rows[0]], id_file)
    with pytest.raises(InputError, match=r"parts was made with `rollouts` 1 file\(s\)"):
        length_tokens(value_model, output, rollouts=id_file, **SMALL)


def test_another_model_does_not_go_on(id_file: Path, value_model: str, tmp_path: Path) -> None:
    length_tokens(value_model, tmp_path / "out", rollouts=id_file, max_rollouts=5, **SMALL)
    other = shutil.copytree(value_model, tmp_path / "model")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"gamma": 0.9}))
    with pytest.raises(InputError, match="parts was made with `value_model` "):
        length_tokens(str(other), tmp_path / "out", rollouts=id_file, max_rollouts=5, **SMALL)


def test_held_out_problems_are_sampled_where_no_rollouts_are_given(value_model: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = {"prompts": 3, "num_samples": 2, "sampling": SamplingSettings(max_tokens=24), **SMALL}
    length_tokens(value_model, output, **options)
    first = summary(output)
    assert first["rollouts"] == 6
    assert {path.name for path in output.iterdir()} == WRITTEN | {"rollouts"}
    length_tokens(value_model, output, **options)
    assert summary(output) == first


def test_rows_that_cannot_be_used_are_one_sentence(
    id_file: Path,
    value_model: str,
    tmp_path: Path,
    write_json_lines: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(source: Path, **options: Any) -> str:
        words = [f"--{name}={value}" for name, value in options.items()]
        output = tmp_path / "out"
        shutil.rmtree(output, ignore_errors=True)
        arguments = ["--value_model", value_model, "--output", str(output), "--rollouts", str(source), *words]
        assert main(["evaluate", "length_tokens", *arguments]) == 2
        return capsys.readouterr().err

    nowhere, empty = tmp_path / "nowhere", tmp_path / "empty"
    empty.mkdir()
    assert f"`rollouts` must be a file or folder of completions, but {nowhere} does not exist." in refused(nowhere)
    assert f"the folder {empty} holds no rollouts: expected files ending in" in refused(empty)
    assert "rows.jsonl is empty: expected at least one rollout row." in refused(write_json_lines([]))
    unknown = write_json_lines([{"prompt_ids": [5], "completion_ids": [6, 100_000]}])
    assert "rows.jsonl:1: `completion_ids` holds 100000, outside the tokenizer's vocabulary" in refused(unknown)
    bad = write_json_lines([{"prompt_ids": [5], "completion_ids": [6]}, "not json"])
    assert "rows.jsonl:2: not valid JSON" in refused(bad)
    text = write_json_lines([{"prompt": "x"}])
    assert "rows.jsonl:1: no `completion`: expected a text, got None; mend the row." in refused(text)
    long = write_json_lines([{"prompt_ids": [5] * 600, "completion_ids": [6]}])
    assert "rows.jsonl:1: the prompt has 600 tokens and fills the context of 512" in refused(long)
    rows = [parse_rollout(row.data or {}) for row in read_rows([id_file])]
    foreign = write_rollouts(rows, tmp_path / "foreign.parquet", facts={"tokenizer": "0123", "generator": "other"})
    assert "was sampled with the tokenizer 0123 (of other), but the tokenizer given is" in refused(foreign)
    assert "`batch_size` must be at least 1, got 0." in refused(id_file, batch_size=0)
    assert "`threshold` must not be negative, got -1.0." in refused(id_file, threshold=-1)
    assert f"`font` must be a TrueType file, but there is none at {nowhere}." in refused(id_file, font=nowhere)


def test_a_tokenizer_that_the_model_was_not_trained_with(
    id_file: Path, value_model: str, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    other = shutil.copytree(value_model, tmp_path / "model")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"tokenizer_fingerprint": "0123"}))
    with pytest.raises(InputError, match="was trained with a tokenizer of fingerprint 0123, but the given one has"):
        length_tokens(str(other), tmp_path / "out", rollouts=id_file, **SMALL)


def test_completions_beyond_the_context_are_counted(
    value_model: str, tmp_path: Path, write_json_lines: Callable[..., Path]
) -> None:
    # 512 positions, of which 10 are the prompt's: the states after 0 to 502 tokens
    rows = write_json_lines([{"prompt_ids": [5] * 10, "completion_ids": [6] * 700}])
    length_tokens(value_model, tmp_path / "out", rollouts=rows, **SMALL)
    found = summary(tmp_path / "out")
    assert (found["tokens"], found["tokens_beyond_context"]) == (502, 198)


def test_prompts_that_were_trained_on_are_refused_unless_insisted(
    id_file: Path, value_model: str, tmp_path: Path
) -> None:
    prompts = [parse_rollout(row.data or {}).prompt_id for row in read_rows([id_file])]
    model = LengthValueModel.from_pretrained(value_model)
    model.training_prompts = PromptSet.of([prompts[40]]).to_text()
    folder = shutil.copytree(value_model, tmp_path / "model")
    model.save_pretrained(folder)
    sentence = r"rows\.parquet, row \d+: the value model was trained on this prompt .* insist with `--allow_overlap`"
    for _ in range(2):
        with pytest.raises(InputError, match=sentence):
            length_tokens(str(folder), tmp_path / "out", rollouts=id_file, **SMALL)
        length_tokens(str(folder), tmp_path / "out", rollouts=id_file, allow_overlap=True, **SMALL)
    assert summary(tmp_path / "out")["rollouts"] == 90

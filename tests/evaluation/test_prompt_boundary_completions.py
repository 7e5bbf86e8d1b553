"""Which prompts are judged on and learned from, and what is said of those that are not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Rollout
from lenvm.data.writing import write_rollouts
from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary import prompt_boundary
from lenvm.evaluation.prompt_boundary.completions import Completions, gather
from lenvm.evaluation.prompt_boundary.prompt_choice import PromptChoice

Rows = Callable[..., list[Rollout]]


@pytest.fixture
def rows(tokenizer: PreTrainedTokenizerBase) -> Rows:
    """Twenty completions of each prompt, of which the last ones were cut."""

    def make(cut: dict[str, int], prefix: str = "") -> list[Rollout]:
        return [
            Rollout(
                prompt_id=f"{prefix}{name}",
                prompt_ids=tokenizer(f"Write {number} words about numbers.").input_ids,
                completion_ids=[50] * 30 if i >= 20 - count else [*[50] * i, tokenizer.eos_token_id],
                finish_reason="length" if i >= 20 - count else "stop",
            )
            for number, (name, count) in enumerate(cut.items())
            for i in range(20)
        ]

    return make


def read(rows: Sequence[Rollout], tokenizer: PreTrainedTokenizerBase, **options: Any) -> Completions:
    return gather([(f"row {i}", row) for i, row in enumerate(rows)], RolloutEncoder(tokenizer), 0.98, **options)


def test_prompts_that_lost_their_long_completions_are_not_judged(
    rows: Rows, tokenizer: PreTrainedTokenizerBase
) -> None:
    written = rows({"all": 20, "none": 0, "one": 1, "two": 2})
    found = read(written, tokenizer, max_cut_share=0.05)  # one of twenty is still allowed
    assert found.table.prompt_ids == ["none", "one"]
    assert found.cut_of_prompt.tolist() == [0, 1]
    assert (found.cut, found.mostly_cut, found.finished) == (23, 2, 39)
    assert [len(ids) for ids in found.token_ids] == [*range(1, 21), *range(1, 20)]
    assert found.prompt.tolist() == [0] * 20 + [1] * 19
    lenient = read(written, tokenizer)
    assert lenient.table.prompt_ids == ["none", "one", "two"]
    assert (lenient.mostly_cut, lenient.finished) == (1, 57)
    assert lenient.digest != found.digest  # so that scores of the one are not taken for those of the other
    with pytest.raises(InputError, match="more than 5% of the completions were cut"):
        read(rows({"two": 2, "three": 3}), tokenizer, max_cut_share=0.05)


def test_cut_completions_have_no_length(rows: Rows, tokenizer: PreTrainedTokenizerBase) -> None:
    before, after = (read(rows({"a": 0, "b": cut, "c": 0}), tokenizer) for cut in (0, 5))
    assert (before.cut, after.cut) == (0, 5)
    assert before.table.completion_lengths[1].tolist() == list(range(1, 21))
    assert after.table.completion_lengths[1].tolist() == list(range(1, 16))
    assert before.digest != after.digest
    with pytest.raises(InputError, match="no finished completion"):
        read(rows({"a": 20}), tokenizer)


def test_cut_and_incomplete_prompts_are_counted_and_said(
    rows: Rows, value_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = write_rollouts(rows({"none": 0, "one": 1, "two": 2}), tmp_path / "held_out.parquet")
    prompt_boundary(value_model=value_model, rollouts=held_out, output=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    kept = pq.read_table(tmp_path / "out" / "prompts.parquet").to_pylist()
    assert [(row["prompt_id"], row["completions"], row["cut_completions"]) for row in kept] == [
        ("none", 20, 0),
        ("one", 19, 1),
    ]
    assert (found["prompts"], found["prompts_mostly_cut"], found["incomplete_prompts"]) == (2, 1, 1)
    assert (found["num_samples"], found["cut_completions"], found["max_cut_share"]) == (20, 3, 0.05)
    printed = capsys.readouterr().out
    assert "with them 1 prompt(s) of which all, or more than 5%, were cut" in printed
    assert "1 prompt(s) have fewer finished completions than 20." in printed
    prompt_boundary(value_model=value_model, rollouts=held_out, output=tmp_path / "out", num_samples=64)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["incomplete_prompts"] == 2
    assert "2 prompt(s) have fewer finished completions than 64." in capsys.readouterr().out


def test_rivals_learn_from_as_many_prompts_as_they_may(
    rows: Rows, value_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = write_rollouts(rows({"a": 0, "b": 0}), tmp_path / "held_out.parquet")
    train = write_rollouts(rows({str(i): 0 for i in range(9)}, "train"), tmp_path / "train.parquet")
    options: dict[str, Any] = {"rollouts": held_out, "train_rollouts": train, "regressor": "none"}
    prompt_boundary(value_model=value_model, output=tmp_path, max_train_prompts=6, **options)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["rivals_training_prompts"], found["available_training_prompts"]) == (6, 9)
    assert "Predictors learn from 6 of 9 training prompts" in capsys.readouterr().out
    assert len(found["predictors"]) == 6


def test_the_choice_of_prompts_does_not_depend_on_the_order_of_rows(
    rows: Rows, tokenizer: PreTrainedTokenizerBase
) -> None:
    written = rows({str(i): i % 3 for i in range(30)})
    found = read(written, tokenizer, max_prompts=7, keep_ids=False)
    shuffled = random.Random(0).sample(written, len(written))
    again = read(shuffled, tokenizer, max_prompts=7, keep_ids=False)
    assert found.table.prompt_ids == again.table.prompt_ids
    assert len(found.table.prompt_ids) == 7
    assert (found.prompts_read, found.finished, found.cut) == (30, again.finished, again.cut)
    assert found.finished + found.cut == 7 * 20
    assert found.table.lengths.tolist() == pytest.approx(again.table.lengths.tolist())
    # more include the fewer
    assert set(found.table.prompt_ids) < set(read(written, tokenizer, max_prompts=8).table.prompt_ids)


def test_few_prompts_are_taken_that_are_not_chosen() -> None:
    choice = PromptChoice(50)
    taken = {str(i) for i in range(5000) if choice.takes(str(i))}
    assert choice.seen == 5000
    assert len(choice.chosen(taken)) == 50
    assert len(taken) < 500  # 50 (1 + log 100) = 280 are expected

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from lenvm.data import Rollout, RolloutDataModule
from lenvm.data.collate import RolloutBatch
from lenvm.data.rollout import parse_rollout
from lenvm.data.writing import write_rollouts
from lenvm.errors import InputError
from lenvm.playground import POLICY_FOLDER
from lenvm.returns import gamma_from_lengths

Write = Callable[..., Path]


@pytest.fixture
def module(tmp_path: Path) -> Callable[..., RolloutDataModule]:
    """A data module that is set up; options as in YAML."""

    def make(**options: Any) -> RolloutDataModule:
        data = RolloutDataModule(tokenizer=str(POLICY_FOLDER), cache_dir=tmp_path / "cache", **options)
        data.prepare_data()
        data.setup("fit")
        return data

    return make


Make = Callable[..., RolloutDataModule]


def text_rows(num_prompts: int, per_prompt: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Count from 1 to {p}.", "completion": "1," * (p + k + 1), "domain": ("math", "code")[p % 2]}
        for p in range(first, first + num_prompts)
        for k in range(per_prompt)
    ]


def prompts(data: RolloutDataModule) -> dict[str, set[str]]:
    return {name: set(dataset.prompt_ids) for name, dataset in data.datasets.items()}


def batches(loader: Any) -> list[RolloutBatch]:
    return list(loader)


def test_splits_share_no_prompt_and_lose_no_row(module: Make, write_json_lines: Write) -> None:
    path = write_json_lines(text_rows(20, 3))
    data = module(train=str(path), val_fraction=0.2, test_fraction=0.1, batch_size=4)
    found = prompts(data)
    assert {name: len(ids) for name, ids in found.items()} == {"train": 14, "val": 4, "test": 2}
    assert len(set.union(*found.values())) == 20
    assert {name: len(dataset) for name, dataset in data.datasets.items()} == {"train": 42, "val": 12, "test": 6}
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()}
    for name, loader in loaders.items():
        seen = [row for batch in batches(loader) for row in batch.row.tolist()]
        assert sorted(seen) == list(range(len(data.datasets[name])))


def test_the_split_is_the_same_when_the_rows_come_in_another_order(module: Make, write_json_lines: Write) -> None:
    rows = text_rows(20, 3)
    one, two = write_json_lines(rows, "one.jsonl"), write_json_lines(rows[::-1], "two.jsonl")
    assert prompts(module(train=str(one), val_fraction=0.3)) == prompts(module(train=str(two), val_fraction=0.3))


def test_the_seed_decides_split_and_order(module: Make, write_json_lines: Write) -> None:
    path = str(write_json_lines(text_rows(20, 3)))
    one, two, again = (module(train=path, val_fraction=0.3, seed=seed) for seed in (0, 1, 0))
    assert prompts(one) == prompts(again) != prompts(two)
    orders = [[b.row.tolist() for b in batches(data.train_dataloader())] for data in (one, again)]
    assert orders[0] == orders[1]


def test_given_splits_are_taken_whole(module: Make, write_json_lines: Write) -> None:
    train, val = write_json_lines(text_rows(6, 2), "a.jsonl"), write_json_lines(text_rows(3, 2, first=6), "b.jsonl")
    data = module(train=str(train), val=str(val), test_fraction=0.34)
    assert {name: len(ids) for name, ids in prompts(data).items()} == {"train": 4, "val": 3, "test": 2}
    assert not prompts(data)["val"] & prompts(data)["train"]


@pytest.mark.parametrize("name", ["val", "test"])
def test_a_prompt_in_training_and_in_another_split_is_refused(module: Make, write_json_lines: Write, name: str) -> None:
    train = write_json_lines(text_rows(6, 2), "a.jsonl")
    other = write_json_lines(text_rows(4, 1, first=4), "b.jsonl")
    shared = parse_rollout(text_rows(1, 1, first=4)[0]).prompt_id
    also = parse_rollout(text_rows(1, 1, first=5)[0]).prompt_id
    message = rf"2 prompt\(s\) of `data\.{name}` are also in `data\.train`, for example prompt_id '{min(shared, also)}'"
    with pytest.raises(InputError, match=message):
        module(train=str(train), **{name: str(other)})


def test_without_test_data_the_validation_data_is_tested_and_predicted(module: Make, write_json_lines: Write) -> None:
    data = module(train=str(write_json_lines(text_rows(10, 2))), val_fraction=0.3)
    assert len(batches(data.test_dataloader())[0].row) == len(data.datasets["val"]) == 6
    assert data.predict_split == "val"


def test_training_alone_has_no_validation(module: Make, write_json_lines: Write) -> None:
    data = module(train=str(write_json_lines(text_rows(3, 2))), val_fraction=0.0)
    assert data.val_dataloader() == []
    assert set(data.datasets) == {"train"}
    with pytest.raises(InputError, match=r"there is no data for `val`; give `data\.val`"):
        data.test_dataloader()


def test_prediction_needs_nothing_but_its_rows(module: Make, write_json_lines: Write) -> None:
    data = module(predict=str(write_json_lines(text_rows(3, 2))))
    assert data.predict_split == "predict"
    assert len(data.datasets["predict"]) == 6
    with pytest.raises(InputError, match=r"gamma is taken from training data, but `data\.train` is not given"):
        data.length_summary()


def test_no_data_at_all_is_refused(module: Make) -> None:
    with pytest.raises(InputError, match=r"no data: give `data\.train` rollout files"):
        module()


def censored_rows() -> list[dict[str, Any]]:
    rows = text_rows(10, 2)
    for row in rows[::4]:
        row["finish_reason"] = "length"
    return rows


def test_censored_rows_are_dropped_counted_and_reported(
    module: Make, write_json_lines: Write, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        data = module(train=str(write_json_lines(censored_rows())), val_fraction=0.2)
    assert sum(len(dataset) for dataset in data.datasets.values()) == 15
    assert not any(batch.states.censored.any() for batch in batches(data.train_dataloader()))
    assert (data.reports["train"].rows, data.reports["train"].censored) == (20, 5)
    assert "5 of 20 completions (25.0%) were cut by the limit and are dropped" in caplog.text


def test_censored_rows_can_be_taken_for_finished_ones(module: Make, write_json_lines: Write) -> None:
    data = module(train=str(write_json_lines(censored_rows())), val_fraction=0.0, censored="as_finished")
    assert len(data.datasets["train"]) == 20
    cut = {int(b.row[t]) for b in batches(data.train_dataloader()) for t in b.states.trajectory[b.states.censored]}
    assert cut == {0, 4, 8, 12, 16}


def test_nothing_but_censored_rows_is_refused(module: Make, write_json_lines: Write) -> None:
    rows = [{**row, "finish_reason": "length"} for row in text_rows(10, 2)]
    path = str(write_json_lines(rows))
    with pytest.raises(InputError, match=r"no completion is left for `val` \(censored policy `drop`\)"):
        module(val=path)
    with pytest.raises(InputError):
        module(train=path, val_fraction=0.2)


def test_bad_rows_stop_or_are_skipped_and_counted(module: Make, write_json_lines: Write) -> None:
    rows: list[Any] = text_rows(10, 2)
    rows[3], rows[7] = "{", {"prompt": "no completion"}
    path = write_json_lines(rows)
    with pytest.raises(InputError, match=r"rows\.jsonl:4: not valid JSON"):
        module(train=str(path))
    with pytest.warns(UserWarning, match=r"data\.train: 2 bad row\(s\) skipped \(not valid JSON: 1; .*\), 18 kept"):
        data = module(train=str(path), on_bad_row="skip", val_fraction=0.0)
    assert len(data.datasets["train"]) == 18


def test_text_prompts_and_chat_messages_become_what_the_generator_read(
    module: Make, write_json_lines: Write, tokenizer: PreTrainedTokenizerBase
) -> None:
    text = "Count from 1 to 3."
    rows = [
        {"prompt": text, "completion": "1,2,3", "prompt_id": "text"},
        {"prompt": [{"role": "user", "content": text}], "completion": "1,2,3", "prompt_id": "chat"},
    ]
    data = module(train=str(write_json_lines(rows)), val_fraction=0.0)
    plain, chat = (data.datasets["train"][i] for i in (0, 1))
    completion = [*tokenizer("1,2,3").input_ids, tokenizer.eos_token_id]
    for batch, prompt_text in ((plain, text), (chat, f"<|user|>{text}<|assistant|>")):
        ids = tokenizer(prompt_text).input_ids + completion
        assert batch.input_ids[0, : len(ids)].tolist() == ids
        assert batch.states.remaining.tolist() == list(range(len(completion), 0, -1))
        assert batch.states.next_ids.tolist() == completion
        assert batch.flat_index[0] == len(ids) - len(completion) - 1


@pytest.mark.parametrize("kind", ["text", "ids"])
def test_parquet_and_json_lines_give_identical_ids(
    module: Make, tmp_path: Path, write_json_lines: Write, id_rows: Callable, kind: str
) -> None:
    rows = id_rows(6, 2) if kind == "ids" else text_rows(6, 2)
    if kind == "text":
        for row in rows[::2]:
            row["prompt"] = [{"role": "user", "content": row["prompt"]}]
    parquet = write_rollouts(map(parse_rollout, rows), tmp_path / "rows.parquet")
    made = [module(train=str(path), val_fraction=0.3) for path in (write_json_lines(rows), parquet)]
    assert prompts(made[0]) == prompts(made[1])
    for name in ("train", "val"):
        one, two = (data.datasets[name][list(range(len(data.datasets[name])))] for data in made)
        assert one.input_ids.equal(two.input_ids)
        assert one.states.remaining.equal(two.states.remaining)


def test_given_ids_are_trained_on_as_they_are(module: Make, write_json_lines: Write, id_rows: Callable) -> None:
    rows = id_rows(5, 2)
    data = module(train=str(write_json_lines(rows)), val_fraction=0.0)
    for i, row in enumerate(rows):
        ids = row["prompt_ids"] + row["completion_ids"]
        assert data.datasets["train"][i].input_ids[0, : len(ids)].tolist() == ids


def test_gamma_and_longest_length_come_from_the_training_rows_alone(module: Make, write_json_lines: Write) -> None:
    train, val = write_json_lines(text_rows(5, 2), "a.jsonl"), write_json_lines(text_rows(5, 2, first=50), "b.jsonl")
    data = module(train=str(train), val=str(val))
    lengths = [int(batch.length) for batch in map(data.datasets["train"].__getitem__, range(10))]
    summary = data.length_summary()
    assert summary.max_length == max(lengths) < min(data.datasets["val"].length)
    assert summary.gamma == gamma_from_lengths(torch.tensor(lengths))


@pytest.mark.parametrize("clip", ["left", "right"])
def test_a_context_clips_rows_but_not_their_labels(module: Make, write_json_lines: Write, clip: str) -> None:
    rows = [{"prompt_ids": [5, 6, 7], "completion_ids": [8] * 30 + [3], "prompt_id": str(i)} for i in range(4)]
    data = module(train=str(write_json_lines(rows)), val_fraction=0.0, max_length=16, clip=clip)
    (batch,) = batches(data.train_dataloader())
    assert batch.input_ids.shape == (4, 16)
    first = batch.states.remaining[batch.states.trajectory == 0].tolist()
    assert first == (list(range(15, 0, -1)) if clip == "left" else list(range(31, 17, -1)))
    assert batch.length.tolist() == [31] * 4


def test_a_prompt_as_long_as_the_context_is_refused_with_its_place(module: Make, write_json_lines: Write) -> None:
    path = write_json_lines([{"prompt_ids": [5] * 16, "completion_ids": [3]}])
    with pytest.raises(InputError, match=r"rows\.jsonl:1: the prompt has 16 tokens and fills the context of 16"):
        module(train=str(path), max_length=16)


def test_grouped_batches_hold_whole_prompts(module: Make, write_json_lines: Write) -> None:
    data = module(train=str(write_json_lines(text_rows(12, 4))), val_fraction=0.0, batching="grouped", batch_size=8)
    for batch in batches(data.train_dataloader()):
        assert sorted(torch.bincount(batch.prompt)[batch.prompt].tolist()) == [4] * 8


def test_domains_have_the_same_numbers_in_every_split(module: Make, write_json_lines: Write) -> None:
    train = write_json_lines(text_rows(6, 2), "a.jsonl")
    val = write_json_lines([{"prompt": "x", "completion": "y", "domain": "law"}, *text_rows(2, 1, first=6)], "b.jsonl")
    data = module(train=str(train), val=str(val))
    assert data.domains == ["code", "law", "math"]
    (batch,) = batches(data.val_dataloader())
    assert sorted(data.domains[i] for i in batch.domain.tolist()) == ["code", "law", "math"]


def test_every_row_keeps_its_own_prompt_and_domain_through_the_split(module: Make, write_json_lines: Write) -> None:
    rows = [
        {"prompt": f"{p}", "completion": "x" * (k + 1), "prompt_id": f"p{p}", "domain": f"of p{p}"}
        for k in range(3)
        for p in range(12)
    ]
    rows[5]["finish_reason"] = "length"
    data = module(train=str(write_json_lines(rows)), val_fraction=0.25, test_fraction=0.25)
    for dataset in data.datasets.values():
        batch = dataset[list(range(len(dataset)))]
        for row, (prompt, domain) in enumerate(zip(batch.prompt.tolist(), batch.domain.tolist(), strict=True)):
            assert data.domains[domain] == f"of {dataset.prompt_ids[prompt]}"
            start = int(batch.flat_index[batch.states.trajectory == row][0]) % batch.input_ids.shape[1]
            text = data.tokenizer.decode(batch.input_ids[row, : start + 1])
            assert f"p{text}" == dataset.prompt_ids[prompt]


@pytest.mark.parametrize("include_terminal", [True, False])
def test_the_terminal_state_is_supervised_when_asked_for(
    module: Make, write_json_lines: Write, include_terminal: bool
) -> None:
    path = str(write_json_lines(text_rows(4, 1)))
    data = module(train=path, val_fraction=0.0, include_terminal=include_terminal)
    (batch,) = batches(data.train_dataloader())
    assert (batch.states.remaining == 0).sum() == (4 if include_terminal else 0)


def test_columns_read_files_with_other_names(module: Make, write_json_lines: Write) -> None:
    rows = [{"q": row["prompt"], "a": row["completion"], "score": 1} for row in text_rows(4, 1)]
    columns = {"prompt": "q", "completion": "a"}
    named = module(train=str(write_json_lines(rows)), columns=columns, val_fraction=0.0)
    plain = module(train=str(write_json_lines(text_rows(4, 1), "plain.jsonl")), val_fraction=0.0)
    assert named.datasets["train"][[0, 1, 2, 3]].input_ids.equal(plain.datasets["train"][[0, 1, 2, 3]].input_ids)


def test_several_files_and_folders_are_one_data_set(module: Make, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for i, row in enumerate(text_rows(4, 1)):
        (tmp_path / "shards" / f"{i}.jsonl").write_text(json.dumps(row) + "\n")
    write_rollouts([Rollout(prompt="x", completion="y", prompt_id="z")], tmp_path / "more.parquet")
    data = module(train=[str(tmp_path / "shards"), str(tmp_path / "more.parquet")], val_fraction=0.0)
    assert len(data.datasets["train"]) == 5


def test_a_missing_tokenizer_is_refused(write_json_lines: Write, tmp_path: Path) -> None:
    data = RolloutDataModule(train=str(write_json_lines(text_rows(2, 1))), cache_dir=tmp_path)
    with pytest.raises(InputError, match=r"give `data\.tokenizer` the generator's tokenizer"):
        data.prepare_data()


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="`batch_size` must be at least 1, got 0"):
        RolloutDataModule(batch_size=0)


def test_a_path_that_is_neither_file_nor_dataset_is_refused(module: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is neither a file nor a folder here, nor a dataset that the hub gives"):
        module(train=str(tmp_path / "missing.jsonl"))

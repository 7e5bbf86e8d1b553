"""`gamma: auto` is the number that `lenvm rollout stats` prints for the folder that is trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lenvm.cli.main import main
from lenvm.data.rollout import parse_rollout
from lenvm.data.writing import write_rollouts
from lenvm.errors import InputError
from lenvm.playground import POLICY_FOLDER
from lenvm.returns import gamma_from_lengths
from lenvm.rollout.stats import stats
from lenvm.targets import DiscountedReturn, LengthSummary
from lenvm.training.module import CHECKPOINT_KEY

CONFIG = Path(__file__).parents[1] / "conf" / "fit.yaml"


@pytest.fixture
def folder(tmp_path: Path, id_rows: Callable) -> Path:
    """Shards in which every prompt has a length of its own, so that no split has the gamma of the whole."""
    rows = [{**row, "completion_ids": [7] * (2 + p) + [3]} for p, row in enumerate(id_rows(24, 1))]
    rows += [{**row, "completion_ids": [7] * 90, "finish_reason": "length"} for row in rows[:2]]
    for i in range(2):
        write_rollouts(map(parse_rollout, rows[i::2]), tmp_path / "rollouts" / f"rollouts-{i:05d}.parquet")
    return tmp_path / "rollouts"


@pytest.mark.parametrize("options", [[], ["--model.gamma=auto", "--model.target.gamma=auto"]], ids=["open", "auto"])
def test_fit_records_the_gamma_of_stats(
    folder: Path, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stats(folder, output=tmp_path / "stats")
    printed = json.loads((tmp_path / "stats" / "stats.json").read_text())["overall"]
    gamma = printed["gamma"]
    assert printed["percentiles"]["99"] == 26
    said: list[str] = []
    monkeypatch.setattr("lenvm.training.module.rank_zero_info", said.append)
    words = {
        "data.train": folder,
        "data.val_fraction": 0.5,
        "data.tokenizer": POLICY_FOLDER,
        "data.cache_dir": tmp_path / "cache",
        "trainer.default_root_dir": tmp_path / "run",
        "trainer.max_steps": 2,
    }
    assert main(["fit", "--config", str(CONFIG), *(f"--{k}={v}" for k, v in words.items()), *options]) == 0
    assert said == [f"gamma {gamma:.6f} from L99 = 26 tokens."]
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)[CHECKPOINT_KEY]
    for recorded in (config, saved):
        assert recorded["gamma"] == recorded["target"]["init_args"]["gamma"] == gamma


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("censored", ["drop", "as_finished"])
def test_neither_the_split_nor_the_policy_for_cut_completions_moves_gamma(
    folder: Path, make_data: Callable, seed: int, censored: str
) -> None:
    data = make_data(train=str(folder), val_fraction=0.5, seed=seed, censored=censored)
    data.setup("fit")
    assert data.length_summary().gamma == gamma_from_lengths([26])
    assert data.length_summary().max_length == max(data.datasets["train"].length)


def test_completions_taken_as_finished_make_gamma_where_none_is(
    make_data: Callable, write_json_lines: Callable
) -> None:
    rows = [
        {"prompt_ids": [5], "completion_ids": [7] * 9, "prompt_id": str(i), "finish_reason": "length"} for i in (0, 1)
    ]
    data = make_data(train=str(write_json_lines(rows, "cut.jsonl")), val_fraction=0.0, censored="as_finished")
    data.setup("fit")
    assert data.length_summary().gamma == gamma_from_lengths([9])


def test_a_gamma_that_is_given_stays(make_data: Callable, make_module: Callable, make_trainer: Callable) -> None:
    module = make_module(target=DiscountedReturn(gamma="auto"), gamma=0.5)
    data = make_data()
    make_trainer(max_steps=1, limit_val_batches=0).fit(module, datamodule=data)
    assert module.model.gamma == 0.5
    assert module.model.target.reference_gamma == data.length_summary().gamma


def test_auto_is_the_same_as_leaving_gamma_out() -> None:
    lengths = LengthSummary(gamma=0.9, max_length=9)
    assert DiscountedReturn(gamma="auto").reference_gamma is None
    assert DiscountedReturn(gamma="auto").calibrated(lengths) == DiscountedReturn().calibrated(lengths)
    with pytest.raises(InputError, match="`gamma` must lie strictly between 0 and 1, got 'automatic'"):
        DiscountedReturn(gamma="automatic")  # type: ignore[arg-type]

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from lenvm.targets import DiscountedReturn
from lenvm.training.predictions import ParquetPredictions

Make = Callable[..., Any]


def test_every_supervised_state_is_one_row_of_the_file(
    make_data: Make, make_module: Make, make_trainer: Make, tmp_path: Path
) -> None:
    module, data = make_module(target=DiscountedReturn(gamma=0.9)), make_data(batch_size=5)
    trainer = make_trainer(callbacks=[ParquetPredictions(folder=str(tmp_path / "out"))])
    trainer.predict(module, datamodule=data, return_predictions=False)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["predictions.parquet"]
    table = pq.read_table(tmp_path / "out" / "predictions.parquet")
    rows = table.to_pylist()

    dataset = data.datasets["val"]
    batch = dataset[list(range(len(dataset)))]
    with torch.no_grad():
        predicted = module(batch.input_ids).flatten()[batch.flat_index].tolist()
    states = zip(batch.states.trajectory.tolist(), batch.position.tolist(), strict=True)
    index = {key: i for i, key in enumerate(states)}
    assert len(rows) == len({(row["row"], row["position"]) for row in rows}) == len(index)
    for row in rows:
        i = index[row["row"], row["position"]]
        assert row["remaining"] == batch.states.remaining[i]
        assert row["next_id"] == batch.states.next_ids[i]
        assert row["prompt_id"] == dataset.prompt_ids[batch.prompt[row["row"]]]
        assert row["domain"] == data.domains[batch.domain[row["row"]]]
        assert row["predicted_remaining"] == pytest.approx(predicted[i], rel=1e-4)
        assert row["value"] == pytest.approx(-(1 - 0.9 ** predicted[i]), rel=1e-4)


def test_the_file_lies_in_the_trainers_folder_unless_another_is_given(
    make_data: Make, make_module: Make, make_trainer: Make, tmp_path: Path
) -> None:
    trainer = make_trainer(callbacks=[ParquetPredictions()])
    trainer.predict(make_module(target=DiscountedReturn(gamma=0.9)), datamodule=make_data(), return_predictions=False)
    assert (tmp_path / "run" / "predictions.parquet").is_file()

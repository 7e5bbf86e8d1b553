"""`lenvm ablate`, with one real grid of two small cells, one of which cannot be fitted."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from lenvm.ablation import Cell
from lenvm.ablation.cells import CellResult
from lenvm.ablation.collect import rows_of
from lenvm.cli.ablate import chosen
from lenvm.cli.main import main
from lenvm.errors import InputError
from lenvm.playground import POLICY_FOLDER

CONF = Path(__file__).parent.parent / "conf" / "fit.yaml"


@pytest.fixture(scope="module")
def grid_file(tmp_path_factory: pytest.TempPathFactory, rollout_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("ablate")
    base = yaml.safe_load(CONF.read_text())
    base["data"] |= {"train": str(rollout_file), "tokenizer": str(POLICY_FOLDER), "cache_dir": str(folder / "cache")}
    base["trainer"] |= {"max_epochs": 1}
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    grid = {
        "base": "base.yaml",
        "axes": {"model.optimizer.init_args.lr": {"small": 0.001, "absurd": 1e30}},
        "metrics": ["val/loss", "val/length_mae"],
        "claims": [
            {
                "claim": "a small rate is better",
                "metric": "val/loss",
                "axis": "model.optimizer.init_args.lr",
                "better": "small",
                "than": ["absurd"],
            }
        ],
    }
    (folder / "rates.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    return folder / "rates.yaml"


def test_a_dry_run_prints_every_command_and_runs_none(
    grid_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", str(grid_file), "--output", str(tmp_path / "out"), "--dry-run", "--only", "lr=small"]) == 0
    printed = capsys.readouterr().out
    assert "lr=small,seed=0: lenvm fit --config=" in printed
    assert "--model.optimizer.init_args.lr=0.001 --seed_everything=0" in printed
    assert "absurd" not in printed
    assert "Dry run: 1 cells." in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("axes", "sentence"),
    [
        ({"model.optimiser": [1]}, "the cell optimiser=1,seed=0 cannot be run"),
        ({"data.batch_size": ["many"]}, "the cell batch_size=many,seed=0 cannot be run"),
    ],
)
def test_a_cell_that_fit_does_not_take_stops_everything_before_it_runs(
    axes: dict[str, list[object]], sentence: str, grid_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = grid_file.parent / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({"base": "base.yaml", "axes": axes}))
    assert main(["ablate", str(wrong), "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "wrong.yaml" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cell_that_diverges_is_shown_and_stops_nothing(
    grid_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", str(grid_file), "--output", str(tmp_path), "--jobs", "2"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    small = summary["cells"]["lr=small,seed=0"]
    assert small["val/loss"] > 0
    assert "the loss became" in summary["failed"]["lr=absurd,seed=0"]
    assert summary["claims"][0]["claim"] == "a small rate is better"
    assert summary["claims"][0]["verdict"] == "agrees"
    table = (tmp_path / "table.md").read_text()
    assert f"| small | {small['val/loss']:.4g} |" in table
    assert "| absurd | diverged | diverged |" in table
    rows = pq.read_table(tmp_path / "metrics.parquet").to_pylist()
    last = [row for row in rows if row["cell"] == "lr=small,seed=0" and row["metric"] == "val/loss"][-1]
    assert last["value"] == pytest.approx(small["val/loss"])
    assert last["model.optimizer.init_args.lr"] == "small"
    assert {"over_training.png", "over_training.svg", "cells"} < {path.name for path in tmp_path.iterdir()}
    assert "Done. Everything is under" in capsys.readouterr().out


def test_means_over_seeds_and_what_is_missing_are_in_the_table(tmp_path: Path) -> None:
    cells = [Cell(base=Path("b"), labels={"a.x": x}, options={"a.x": x}, seed=seed) for x in "pqr" for seed in (0, 1)]
    values = {"x=p,seed=0": 1.0, "x=p,seed=1": 3.0, "x=q,seed=0": 2.0, "x=q,seed=1": float("nan")}
    found = {c.name: CellResult(c, {"val/loss": values[c.name]}, 5, tmp_path) for c in cells if c.name in values}
    rows = rows_of(cells, found, {"x=r,seed=0": "no", "x=r,seed=1": "no"}, ["val/loss"])
    assert [row.shown("val/loss") for row in rows] == ["2 ± 1.4", "2 (diverged: 1 of 2)", "failed"]


def test_a_part_of_the_cells() -> None:
    cells = [Cell(base=Path("b"), labels={"a.x": x}, options={"a.x": x}, seed=seed) for x in "pqr" for seed in (0, 1)]
    assert [c.name for c in chosen(cells, ["x=p", "x=r", "seed=1"])] == ["x=p,seed=1", "x=r,seed=1"]
    assert chosen(cells, []) == cells
    with pytest.raises(InputError, match=r"`only` has 'x=z', but the cells have seed=0, seed=1, x=p, x=q, x=r"):
        chosen(cells, ["x=z"])
    with pytest.raises(InputError, match=r"`only` must be NAME=VALUE, as in seed=0, got 'x'"):
        chosen(cells, ["x"])

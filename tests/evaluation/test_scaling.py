from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from lenvm.ablation import Cell, CellResult, read_grid
from lenvm.errors import InputError
from lenvm.evaluation.scaling import scaling
from lenvm.evaluation.scaling.command import _axis
from lenvm.evaluation.scaling.results import Axis, write_scaling

ROOT = Path(__file__).parent.parent.parent


def grid_file(folder: Path, axes: object) -> Path:
    (folder / "fit.yaml").write_text("{}")
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({"base": "fit.yaml", "axes": axes, "seeds": [0, 1]}))
    return path


def test_the_slope_of_a_power_law_is_its_exponent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    falling = Axis("prompts", "data.train_prompts", {str(n): (n, [3 * n**-0.5, 3 * n**-0.5]) for n in (10, 40, 160)})
    rising = Axis("model_size", "weights", {"a": (1e6, [0.1]), "b": (2e6, [0.2])})
    bumpy = Axis("completions", "data.train_samples", {"1": (1, [3.0]), "2": (2, [1.0]), "4": (4, [2.0])})
    write_scaling(tmp_path, [falling, rising, bumpy], "val/loss")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["prompts"]["slope"] == pytest.approx(-0.5)
    assert summary["model_size"]["slope"] == pytest.approx(1.0)
    verdicts = {name: (axis["falls"], axis["falls_everywhere"]) for name, axis in summary.items() if name != "metric"}
    assert verdicts == {"prompts": (True, True), "model_size": (False, False), "completions": (True, False)}
    printed = capsys.readouterr().out
    assert "prompts: the loss falls at every step" in printed
    assert "model_size: the loss does not fall" in printed
    assert "completions: the loss falls, but not at every step" in printed
    assert pq.read_table(tmp_path / "cells.parquet")["val/loss"].to_pylist()[6:] == [0.1, 0.2, 3.0, 1.0, 2.0]
    assert "| model_size | a | 1,000,000 | 0.10000 |  | 1 |" in (tmp_path / "table.md").read_text()
    assert {"scaling.png", "scaling.svg", "tensorboard"} < {path.name for path in tmp_path.iterdir()}


def test_models_are_ordered_by_their_weights_and_seeds_kept_together(tmp_path: Path) -> None:
    grid = read_grid(grid_file(tmp_path, {"model.backbone": {"large": "a.B", "small": "c.D"}}))
    results = [
        CellResult(cell, {"val/loss": size / 1000 + cell.seed}, size, tmp_path)
        for cell, size in zip(grid.cells(), (900, 900, 100, 100), strict=True)
    ]
    axis = _axis("model_size", grid, results, "val/loss")
    assert axis.points == {"small": (100.0, [0.1, 1.1]), "large": (900.0, [0.9, 1.9])}
    with pytest.raises(InputError, match=r"did not log `val/mre`; choose one of val/loss"):
        _axis("model_size", grid, results, "val/mre")


def test_two_values_of_one_size_are_no_curve(tmp_path: Path) -> None:
    grid = read_grid(grid_file(tmp_path, {"model.backbone": {"one": "a.B", "other": "c.D"}}))
    results = [CellResult(cell, {"val/loss": 1.0}, 100, tmp_path) for cell in grid.cells()]
    with pytest.raises(InputError, match=r"two values of `model\.backbone` are of equal size"):
        _axis("model_size", grid, results, "val/loss")


@pytest.mark.parametrize(
    ("axes", "sentence"),
    [
        ({"data.seed": [1, 2], "model.x": [1, 2]}, "must have one axis, but it has data.seed, model.x"),
        ({"data.train_prompts": [5]}, "the axis `data.train_prompts` of .* needs two values or more"),
        ({"model.head": {"a": "x.Y", "b": "x.Z"}}, "the values of `model.head` must be numbers, got 'a'"),
    ],
)
def test_grids_that_are_no_curve(axes: object, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        scaling(tmp_path / "out", grids={"x": grid_file(tmp_path, axes)})


def test_no_grid_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give at least one grid in `grids`"):
        scaling(tmp_path, grids={})


def test_the_committed_grids_share_one_base_and_span_what_they_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    grids = {path.stem: read_grid(path) for path in sorted(Path("ablations").glob("scaling_*.yaml"))}
    cells: dict[str, list[Cell]] = {name: list(grid.cells()) for name, grid in grids.items()}
    assert {grid.base for grid in grids.values()} == {Path("experiments/train/playground_scaling.yaml")}
    assert len(cells["scaling_model_size"]) == 4
    prompts = [int(cell.options["data.train_prompts"]) for cell in cells["scaling_prompts"]]
    assert (16 * min(prompts), 16 * max(prompts)) == (2_000, 64_000)
    assert [int(cell.options["data.train_samples"]) for cell in cells["scaling_samples"]] == [16, 8, 4, 1]
    for grid in grids.values():
        assert [path.stem for path in grid.rollouts] == ["playground", "playground_held_out"]

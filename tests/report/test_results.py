from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lenvm.report.results import ResultFolder, markdown_table


def figure() -> Figure:
    drawn = Figure()
    drawn.add_subplot().plot([1, 2, 3])
    return drawn


def test_everything_is_there_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ResultFolder(tmp_path / "a" / "b", "lengths")
    for _ in range(2):  # running again replaces
        folder.write_rows("rows", pa.table({"x": [1, 2]}))
        folder.write_summary({"mre": 0.5, "tau": float("nan"), "by": {16: [float("inf"), "ü"]}})
        folder.write_table("| a |\n")
        folder.write_figures({"curve": figure(), "bars": figure()})
    folder.finish("blocks/")
    names = {"rows.parquet", "summary.json", "table.md", "curve.png", "curve.svg", "bars.png", "bars.svg"}
    assert {p.name for p in folder.path.iterdir()} == names | {"tensorboard"}
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary == {"mre": 0.5, "tau": None, "by": {"16": [None, "ü"]}}
    assert pq.read_table(folder.path / "rows.parquet")["x"].to_pylist() == [1, 2]
    events = EventAccumulator(str(folder.path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert events.Tags()["images"] == ["lengths/curve", "lengths/bars"]
    assert len(events.Images("lengths/curve")) == 1
    assert (folder.path / "curve.svg").read_text().lstrip().startswith("<?xml")
    printed = capsys.readouterr().out
    assert f"Done. Everything is under {folder.path}: rows.parquet, summary.json, table.md, curve.png" in printed
    assert printed.rstrip().endswith("blocks/.")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path, "lengths")
    folder.write_summary({"mre": 1.0})
    with pytest.raises(TypeError):
        folder.write_summary({"mre": object()})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"mre": 1.0}
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def test_figures_that_are_not_drawn_this_time_go_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"the user's own")
    ResultFolder(tmp_path, "lengths").write_figures({"curve": figure(), "pass_at_k": figure()})
    ResultFolder(tmp_path, "lengths").write_figures({"curve": figure(), "bars": figure()})
    figures = {f"{name}.{kind}" for name in ("curve", "bars") for kind in ("png", "svg")}
    assert {path.name for path in tmp_path.iterdir()} == figures | {"mine.png", "tensorboard"}
    # names that no figure has are left alone
    outside = tmp_path.parent / f"{tmp_path.name}_outside.png"
    outside.write_bytes(b"")
    (tmp_path / "summary.json").write_text("{}")
    manifest = tmp_path / "tensorboard" / "figures.json"
    manifest.write_text(json.dumps(["bars.png", f"../{outside.name}", "summary.json", "gone.svg"]))
    ResultFolder(tmp_path, "lengths").write_figures({"curve": figure()})
    names = {"curve.png", "curve.svg", "bars.svg", "mine.png", "summary.json", "tensorboard"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert outside.exists()


def test_a_markdown_table() -> None:
    table = markdown_table(["name", "x"], [["a|b", "1"], ["c", "2"]])
    assert table == "| name | x |\n| --- | ---: |\n| a\\|b | 1 |\n| c | 2 |\n"

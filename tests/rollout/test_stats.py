from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lenvm.cli.main import main
from lenvm.data.rollout import Rollout
from lenvm.data.writing import write_rollouts
from lenvm.errors import InputError
from lenvm.playground import POLICY_FOLDER
from lenvm.report.length_plots import LengthCurve, length_survival
from lenvm.returns import gamma_from_lengths
from lenvm.rollout.stats import stats

FILES = ["lengths.png", "lengths.svg", "stats.json"]


def completions(lengths: list[int], *, prompt: str, domain: str | None, cut: int = 0) -> list[Rollout]:
    return [
        Rollout(
            prompt_ids=[5],
            completion_ids=[7] * length,
            prompt_id=prompt,
            domain=domain,
            finish_reason="length" if i < cut else "stop",
        )
        for i, length in enumerate(lengths)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards: the prompts `a` and `b` of math, and `c` of code, one of whose four completions was cut."""
    math = completions([1, 2, 3], prompt="a", domain="math") + completions([4, 8], prompt="b", domain="math")
    write_rollouts(math, tmp_path / "runs" / "rollouts-00000.parquet")
    code = completions([100, 6, 6, 6], prompt="c", domain="code", cut=1)
    write_rollouts(code, tmp_path / "runs" / "rollouts-00001.parquet")
    (tmp_path / "runs" / "__run__").mkdir()
    (tmp_path / "runs" / "__run__" / "journal.jsonl").write_text("not a row\n")
    return tmp_path / "runs"


def test_a_folder_is_described_on_the_terminal_and_in_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "stats", str(folder)]) == 0
    assert capsys.readouterr().err == ""
    assert main(["rollout", "stats", str(folder)]) == 0
    assert sorted(p.name for p in (folder / "__stats__").iterdir()) == FILES
    found = json.loads((folder / "__stats__" / "stats.json").read_text())
    assert list(found["domains"]) == ["code", "math"]
    overall, math, code = found["overall"], found["domains"]["math"], found["domains"]["code"]
    known = np.array([1, 2, 3, 4, 8, 6, 6, 6])
    assert (overall["prompts"], overall["completions"], overall["tokens"], overall["censored"]) == (3, 9, 136, 1)
    assert overall["mean"] == known.mean() == 4.5
    expected = {p: np.percentile(known, float(p), method="inverted_cdf") for p in overall["percentiles"]}
    assert overall["percentiles"] == expected
    assert overall["gamma"] == gamma_from_lengths(known)
    assert (overall["gamma_is_lower_bound"], math["gamma_is_lower_bound"]) == (True, False)
    # means 2 and 6 around 3.6: SSB = 3 * 1.6**2 + 2 * 2.4**2 = 19.2; SSW = 2 + 8; n0 = (5 - 13/5) / 1
    assert math["variance_within_prompts"] == pytest.approx(10 / 3)
    assert math["variance_between_prompts"] == pytest.approx((19.2 - 10 / 3) / 2.4)
    assert math["share_between_prompts"] == pytest.approx(1 / (1 + (10 / 3) / ((19.2 - 10 / 3) / 2.4)))
    assert (code["variance_between_prompts"], code["variance_within_prompts"]) == (None, 0.0)
    out = " ".join(capsys.readouterr().out.split())
    assert "math 2 5 18 0.00%" in out
    assert "Cut by the limit: 25.0% of code, 11.1% of all domains." in out
    assert "L99 and gamma are lower bounds there" in out
    # of all: SSB = 30, SSW = 10, n0 = (8 - 22/8) / 2, so 4.95 and 2
    assert f"all domains 5 2 71.2% {0.01 ** (1 / 8):.6f}" in out
    assert f"Done. Everything is under {folder / '__stats__'}: stats.json, lengths.png, lengths.svg." in out


def test_nothing_is_said_of_bounds_when_next_to_nothing_was_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rollouts(completions([5] * 200, prompt="a", domain=None, cut=2), tmp_path / "rows.parquet")
    stats(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.parquet", *(f"rows.parquet.{name}" for name in FILES)]
    assert "lower bounds" not in capsys.readouterr().out
    found = json.loads((tmp_path / "rows.parquet.stats.json").read_text())
    assert found["domains"] == {}
    assert not found["overall"]["gamma_is_lower_bound"]


def test_text_rows_need_a_tokenizer(rollout_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "stats", str(rollout_file), "--output", str(tmp_path / "out")]) == 2
    assert "name the generator's with `--tokenizer`" in capsys.readouterr().err
    words = ["--tokenizer", str(POLICY_FOLDER), "--prompt-format", "chat", f"--output={tmp_path / 'out'}"]
    assert main(["rollout", "stats", str(rollout_file), *words]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == FILES
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["overall"]["completions"] == 90


def test_a_domain_that_was_all_cut_is_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = completions([5, 6], prompt="a", domain="math", cut=2) + completions([7], prompt="b", domain="code")
    stats(write_rollouts(rows, tmp_path / "rows.parquet"), output=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "stats.json").read_text())["domains"]["math"]
    assert (found["gamma"], found["mean"], found["percentiles"], found["censored_share"]) == (None, None, {}, 1.0)
    assert "math - - - - - - - - -" in " ".join(capsys.readouterr().out.split())


def test_what_cannot_be_measured_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"the folder .*empty holds no rollouts"):
        stats(tmp_path / "empty")
    with pytest.raises(InputError, match=r"nowhere does not exist; expected a folder or a file of rollouts\."):
        stats(tmp_path / "nowhere")
    cut = write_rollouts(completions([5, 6], prompt="a", domain=None, cut=2), tmp_path / "cut.parquet")
    with pytest.raises(InputError, match=r"all 2 completions in .* were cut by the limit, so no length is known"):
        stats(cut)


def test_a_folder_that_cannot_be_written_to(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write the statistics into .*below \(Not a directory\); name another"):
        stats(folder, output=tmp_path / "file" / "below")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)  # root, whom tests may run as, can write whatever the mode
    sentence = rf"cannot write the statistics into {folder}/__stats__ \(Read-only file system\); name another folder"
    with pytest.raises(InputError, match=sentence):
        stats(folder)


@pytest.mark.parametrize("count", [0, 1, 12])
def test_the_figure_has_a_curve_per_domain_and_its_legend_overlaps_nothing(count: int) -> None:
    rng = np.random.default_rng(0)

    def curve(size: int) -> LengthCurve:
        lengths = rng.lognormal(5, 1, size).astype(int) + 1
        return LengthCurve(lengths, *(int(np.percentile(lengths, p, method="inverted_cdf")) for p in (50, 99)))

    curves = {f"a_domain_with_${i}_name": curve(50 + i) for i in range(count)}
    figure = length_survival(curves, curve(5000))
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    texts = legend.get_texts()
    assert len(texts) == min(count, 8) + 1
    assert ("the 8 largest of 12 domains" in legend.get_title().get_text()) == (count == 12)
    frame = figure.bbox
    boxes = [text.get_window_extent() for text in texts]
    assert all(frame.contains(b.x0, b.y0) and frame.contains(b.x1, b.y1) for b in boxes)
    ticks = [tick.get_window_extent() for tick in axes.get_xticklabels() if tick.get_text()]
    every = [*boxes, *ticks, axes.xaxis.label.get_window_extent()]
    assert not any(one.overlaps(two) for i, one in enumerate(every) for two in every[:i])


def test_the_curve_goes_through_its_marks(write_json_lines: Callable[..., Path]) -> None:
    lengths = np.random.default_rng(0).permutation(np.arange(1, 1001))
    line = length_survival({}, LengthCurve(lengths, 500, 990)).axes[0].lines[0]
    share = dict(zip(*line.get_data(), strict=True))
    assert share[500] == pytest.approx(0.501)  # 500 to 1000 are 501 of 1,000
    assert share[990] == pytest.approx(0.011)
    assert share[991] == pytest.approx(0.010)
    assert share[1000] == pytest.approx(0.001)
    assert share[1001] < 1e-9


def test_completions_of_one_length_can_be_drawn(tmp_path: Path) -> None:
    stats(write_rollouts(completions([1], prompt="a", domain="x"), tmp_path / "rows.parquet"), output=tmp_path / "o")
    assert (tmp_path / "o" / "lengths.svg").exists()

"""The demo in miniature: the same code as `make demo`, on fewer prompts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from lenvm.cli.main import main
from lenvm.models import LengthValueModel

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demo")
    sizes = {"train_prompts": 60, "train_samples": 4, "test_prompts": 9, "test_samples": 8, "epochs": 1}
    assert main(["demo", "--output", str(output), *(f"--{k}={v}" for k, v in sizes.items())]) == 0
    return output


def test_the_demo_leaves_what_it_promises(results: Path) -> None:
    expected = {
        "summary.json",
        "report.html",
        "figures",
        "tensorboard",
        "model",
        "config.yaml",
        "rollouts",
        "checkpoints",
    }
    assert expected <= {p.name for p in results.iterdir()}
    figures = {"predicted_against_true", "mre", "error_by_position", "value_curves"}
    assert {p.stem for p in (results / "figures").glob("*.png")} == figures


def test_the_summary_has_every_figure(results: Path) -> None:
    summary = json.loads((results / "summary.json").read_text())
    assert {"accuracy", "eos_rate", "length_cv"} <= set(summary["generator"])
    prediction = summary["length_prediction"]
    assert {"mre", "constant_mre", "kendall_tau", "per_domain"} <= set(prediction)
    assert set(prediction["per_domain"]) == {"math", "code", "instruction"}
    assert prediction["prompts"] == 9
    assert list(summary["length_mae"]) == ["0", "25", "50", "75"]
    assert summary["gamma"] == LengthValueModel.from_pretrained(results / "model").gamma
    assert all(seconds > 0 for seconds in summary["seconds"].values())


def test_the_report_needs_nothing_from_outside(results: Path) -> None:
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert page.count("data:image/png;base64,") == 4


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the report is not opened in a browser")
def test_a_browser_draws_every_token_of_the_report(results: Path) -> None:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    shown = subprocess.run(
        [str(CHROMIUM), *flags, (results / "report.html").as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert shown.count('class="card reading"') == 6
    assert shown.count("<polyline") == 12
    assert shown.count('tabindex="0"') > 100


def test_the_demo_may_be_run_again(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output", str(results), "--train_prompts=0"]) == 2
    assert "must be at least 1" in capsys.readouterr().err


def test_the_readmes_python_works_on_the_demos_model(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "demo").symlink_to(results)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert float(capsys.readouterr().out.strip().removeprefix("tensor([").removesuffix("])")) > 1

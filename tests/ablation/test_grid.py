from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lenvm.ablation import read_grid
from lenvm.errors import InputError

FIT = "../experiments/fit.yaml"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "experiments" / "fit.yaml"
    path.parent.mkdir()
    path.write_text("model: {}\n")
    (tmp_path / "experiments" / "big.yaml").write_text("class_path: x\n")
    (tmp_path / "experiments" / "rollouts.yaml").write_text("generator: x\n")
    return path


def write(tmp_path: Path, **content: object) -> Path:
    path = tmp_path / "ablations" / "grid.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_every_combination_with_every_seed(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(
        tmp_path,
        base=FIT,
        rollouts=["../experiments/rollouts.yaml"],
        seeds=[0, 7],
        axes={
            "model.backbone": {"big": "../experiments/big.yaml", "named": "a.b.C"},
            "data.train_prompts": [10, 20],
            "model.optimizer.init_args": {"fast": {"lr": 0.1, "betas": [0.9, 0.99]}},
        },
    )
    grid = read_grid(file)
    assert grid.base == Path("experiments/fit.yaml")  # as `lenvm fit` reads it from here
    assert grid.rollouts == (Path("experiments/rollouts.yaml"),)
    cells = list(grid.cells())
    assert len(cells) == 2 * 2 * 1 * 2
    assert [cell.name for cell in cells[:3]] == [
        "backbone=big,train_prompts=10,init_args=fast,seed=0",
        "backbone=big,train_prompts=10,init_args=fast,seed=7",
        "backbone=big,train_prompts=20,init_args=fast,seed=0",
    ]
    assert cells[1].fit(Path("out")).arguments == [
        "--config=experiments/fit.yaml",
        "--model.backbone=experiments/big.yaml",
        "--data.train_prompts=10",
        '--model.optimizer.init_args={"lr": 0.1, "betas": [0.9, 0.99]}',
        "--seed_everything=7",
        "--trainer.default_root_dir=out",
    ]
    assert cells[-1].options["model.backbone"] == "a.b.C"
    assert cells[-1].labels["model.backbone"] == "named"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"base": FIT}, "must have `base`, a configuration of `lenvm fit`, and `axes`"),
        (
            {"base": "nothing.yaml", "axes": {"a": [1]}},
            r"`base` names nothing.yaml, but there is no file .*nothing.yaml",
        ),
        ({"base": FIT, "axes": {}}, "`axes` must name options"),
        ({"base": FIT, "axes": {"data.seed": []}}, "the axis `data.seed` needs a list of values"),
        ({"base": FIT, "axes": {"a": 3}}, "the axis `a` needs a list of values"),
        (
            {"base": FIT, "axes": {"a": {"x": "no.yaml"}}},
            "`a` names no.yaml, but there is no file",
        ),
        ({"base": FIT, "axes": {"a": [1]}, "seeds": []}, "`seeds` must be whole numbers"),
        ({"base": FIT, "axes": {"a": [1]}, "seeds": [True]}, "`seeds` must be whole numbers"),
        (
            {"base": FIT, "axes": {"a": [1]}, "axis": 1},
            "has the unknown key 'axis'; a grid has axes",
        ),
        (
            {"base": FIT, "axes": {"a": [1]}, "rollouts": ["x.yaml"]},
            "`rollouts` names x.yaml, but there is no file",
        ),
    ],
)
def test_what_is_wrong_is_named(content: dict[str, object], sentence: str, tmp_path: Path, base: Path) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_grid(write(tmp_path, **content))
    assert "grid.yaml" in str(caught.value)


def test_a_missing_file_and_one_that_is_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected the YAML file of a grid, found none at .*none.yaml"):
        read_grid(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("base: [")
    with pytest.raises(InputError, match=r"bad\.yaml is not YAML"):
        read_grid(tmp_path / "bad.yaml")


def test_two_cells_with_one_name_are_refused(tmp_path: Path, base: Path) -> None:
    # the last words of both options are the same, so the second hides the first
    file = write(tmp_path, base=FIT, axes={"model.lr": [1, 2], "data.lr": [3]})
    with pytest.raises(InputError, match=r"two cells are called 'lr=3,seed=0'; give the values other labels"):
        list(read_grid(file).cells())

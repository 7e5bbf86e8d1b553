"""A tiny real run: rollouts on disk, a data module that reads them, a module to fit, a Trainer that is silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from lenvm.backbones import RandomBackbone
from lenvm.data import RolloutDataModule
from lenvm.playground import POLICY_FOLDER
from lenvm.training import LengthValueModule


@pytest.fixture
def backbone_config(tiny_backbone_config: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {**tiny_backbone_config, "vocab_size": len(tokenizer)}


@pytest.fixture
def make_data(
    tmp_path: Path, write_json_lines: Callable[..., Path], id_rows: Callable
) -> Callable[..., RolloutDataModule]:
    """A data module over 12 prompts with 4 completions each, a quarter of them for validation."""
    rows = [{**row, "domain": ("math", "code")[i % 8 < 4]} for i, row in enumerate(id_rows(12, 4))]
    path = str(write_json_lines(rows))

    def make(**options: Any) -> RolloutDataModule:
        defaults = {"train": path, "val_fraction": 0.25, "batch_size": 8, "cache_dir": tmp_path / "cache"}
        return RolloutDataModule(tokenizer=str(POLICY_FOLDER), **{**defaults, **options})

    return make


@pytest.fixture
def make_module(backbone_config: dict[str, Any]) -> Callable[..., LengthValueModule]:
    """A module that starts from the same random weights every time."""

    def make(freeze: Any = "none", **options: Any) -> LengthValueModule:
        torch.manual_seed(0)
        return LengthValueModule(RandomBackbone(backbone_config, freeze=freeze), **options)

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    def make(**options: Any) -> L.Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path / "run",
        }
        return L.Trainer(**{**defaults, **options})

    return make

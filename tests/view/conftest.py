from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nasty import NASTY
from torch import nn
from transformers import PreTrainedTokenizerBase

from lenvm.backbones import RandomBackbone
from lenvm.data.tokenizer import fingerprint
from lenvm.heads import MLPHead
from lenvm.models import LengthValueModel
from lenvm.targets import DiscountedReturn


@pytest.fixture(scope="session")
def model(tokenizer: PreTrainedTokenizerBase) -> LengthValueModel:
    """An untrained value model of the playground's tokens, whose predictions differ from token to token."""
    generator = torch.Generator().manual_seed(7)
    config = {
        "model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512,
    }  # fmt: skip
    head = MLPHead(32)
    backbone = RandomBackbone(config)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=1.5 * parameter.shape[-1] ** -0.5, generator=generator)
    return LengthValueModel(
        backbone, head, DiscountedReturn(gamma=0.97), tokenizer_fingerprint=fingerprint(tokenizer), prompt_format="chat"
    ).eval()


@pytest.fixture(scope="session")
def model_folder(
    model: LengthValueModel, tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return model.save_pretrained(tmp_path_factory.mktemp("models") / "tiny", tokenizer)


@pytest.fixture
def nasty_rollouts(write_json_lines: Callable[..., Path]) -> Path:
    """Two prompts: two completions of what breaks pages, one of them cut; and one of a plain text."""
    rows: list[dict[str, Any] | str] = [
        {"prompt": "Say </textarea> & <i>", "completion": NASTY, "prompt_id": "nasty", "domain": "<u>"},
        {"prompt": "Say </textarea> & <i>", "completion": "cut 你好", "prompt_id": "nasty", "finish_reason": "length"},
        {"prompt": [{"role": "user", "content": "Count."}], "completion": "1 2 3 4\n5\n6 7 8", "prompt_id": "plain"},
    ]  # fmt: skip
    return write_json_lines(rows, "nasty.jsonl")


@pytest.fixture(scope="session")
def embedded() -> Callable[[str], dict[str, Any]]:
    """The JSON of a page."""

    def read(html: str) -> dict[str, Any]:
        start = '<script type="application/json" id="data">'
        assert html.count(start) == 1
        found: dict[str, Any] = json.loads(html.partition(start)[2].partition("</script>")[0])
        return found

    return read

"""A small untrained value model that reads the playground's tokens: quick, and good for everything but numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase


@pytest.fixture(scope="session")
def value_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> str:
    """Its folder."""
    from lenvm.backbones import RandomBackbone
    from lenvm.data.tokenizer import fingerprint
    from lenvm.heads import ActionValueHead
    from lenvm.models import LengthValueModel
    from lenvm.targets import DiscountedReturn

    torch.manual_seed(0)
    config = {
        "model_type": "qwen2",
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
    }
    model = LengthValueModel(
        RandomBackbone(config),
        ActionValueHead(16, vocab_size=len(tokenizer)),
        DiscountedReturn(gamma=0.98),
        tokenizer_fingerprint=fingerprint(tokenizer),
        shortest_length=5,
        longest_length=200,
    )
    folder: Path = tmp_path_factory.mktemp("value_model")
    model.save_pretrained(folder, tokenizer)
    return str(folder)

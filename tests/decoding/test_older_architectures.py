"""Models whose attention is their own are read right, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from from_scratch import next_logits
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lenvm.decoding.prefix import PrefixReader
from lenvm.errors import InputError

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [14]]
PLACE = torch.tensor([1, 0, 2, 1, 0])
SIZES = {"vocab_size": 67, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
WIDTHS = {"hidden_size": 32, "intermediate_size": 48, "initializer_range": 0.3}
OLDER = {"vocab_size": 67, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3}
SHORT = {"vocab_size": 67, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 64}


def made(model_type: str, attention: str, sizes: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **sizes)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return model.float().eval()


@pytest.mark.parametrize(
    ("model_type", "attention", "sizes"),
    [
        ("falcon", "eager", {**SIZES, **WIDTHS, "num_kv_heads": 4}),
        ("falcon", "sdpa", {**SIZES, **WIDTHS, "num_kv_heads": 4}),
        ("stablelm", "eager", {**SIZES, **WIDTHS, "num_key_value_heads": 2}),
        ("gptj", "eager", {**OLDER, "rotary_dim": 4}),
        ("gpt_neo", "eager", {**SHORT, "attention_types": [[["global", "local"], 1]], "window_size": 4}),
        ("mpt", "eager", {"vocab_size": 67, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}),
    ],
)
@torch.no_grad()
def test_attention_of_their_own_is_told_what_each_token_sees(
    model_type: str, attention: str, sizes: dict[str, Any]
) -> None:
    model = made(model_type, attention, sizes)
    reader = PrefixReader(model, PROMPTS, PLACE)
    rows = [list(PROMPTS[p]) for p in PLACE.tolist()]
    for step in range(7):
        assert reader.logits is not None
        expected = torch.stack([next_logits(model, row)[-1] for row in rows])
        torch.testing.assert_close(reader.logits, expected, atol=1e-4, rtol=1e-4)
        if step == 3:
            kept = torch.tensor([4, 0, 2])
            reader.keep(kept)
            rows = [rows[i] for i in kept.tolist()]
        newest = torch.randint(3, 67, (len(rows),))
        reader.step(newest)
        rows = [[*row, token] for row, token in zip(rows, newest.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("model_type", "sizes", "message"),
    [
        ("bloom", {"vocab_size": 67, "hidden_size": 32, "n_layer": 2, "n_head": 4}, "cannot say to BloomForCausalLM"),
        (
            "rwkv",
            {"vocab_size": 67, "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
            "RwkvForCausalLM keeps no keys and values",
        ),
        ("mamba", {"vocab_size": 67, "hidden_size": 32, "num_hidden_layers": 2}, "'linear_attention'"),
    ],
)
def test_what_cannot_be_read_token_by_token_is_refused(model_type: str, sizes: dict[str, Any], message: str) -> None:
    with torch.no_grad(), pytest.raises(InputError, match=message):
        PrefixReader(made(model_type, "eager", sizes), PROMPTS, PLACE)

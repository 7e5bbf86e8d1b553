"""Reading through the cache is reading from scratch, whatever the architecture bends in its attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lenvm.decoding.prefix import PrefixReader
from lenvm.errors import InputError

SIZES: dict[str, Any] = {
    "vocab_size": 67,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 4},
    "gemma2": {"head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "gpt_oss": {"head_dim": 8, "sliding_window": 4, "num_local_experts": 2, "num_experts_per_tok": 1},
    "gpt2": {},
}
PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [14]]
PLACE = torch.tensor([1, 0, 2, 1, 0])


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    sizes = SIZES
    if request.param == "gpt2":
        sizes = {"vocab_size": 67, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3}
    config = AutoConfig.for_model(request.param, **{**sizes, **ARCHITECTURES[request.param]})
    torch.manual_seed(0)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return made.float().eval()


@torch.no_grad()
def from_scratch(model: PreTrainedModel, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Last hidden state and logits, by one pass over everything."""
    inputs = torch.tensor([list(ids)])
    hidden = model.base_model(input_ids=inputs).last_hidden_state[0, -1]
    return hidden, model(input_ids=inputs).logits[0, -1]


def assert_at(reader: PrefixReader, model: PreTrainedModel, rows: list[list[int]]) -> None:
    expected = [from_scratch(model, row) for row in rows]
    assert reader.logits is not None
    torch.testing.assert_close(reader.hidden, torch.stack([h for h, _ in expected]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(reader.logits, torch.stack([z for _, z in expected]), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_steps_and_leaving_rows_are_what_a_pass_over_everything_gives(model: PreTrainedModel) -> None:
    reader = PrefixReader(model, PROMPTS, PLACE)
    rows = [list(PROMPTS[p]) for p in PLACE.tolist()]
    assert_at(reader, model, rows)
    for step in range(9):
        if step == 4:
            kept = torch.tensor([4, 0, 2])
            reader.keep(kept)
            rows = [rows[i] for i in kept.tolist()]
        newest = torch.randint(3, 67, (len(rows),))
        reader.step(newest)
        rows = [[*row, token] for row, token in zip(rows, newest.tolist(), strict=True)]
        assert_at(reader, model, rows)


@torch.no_grad()
def test_candidates_side_by_side_are_what_each_alone_is_from_scratch(model: PreTrainedModel) -> None:
    body = model.base_model
    reader = PrefixReader(body, PROMPTS, PLACE)
    rows = [list(PROMPTS[p]) for p in PLACE.tolist()]
    for step in range(7):
        if step == 3:
            kept = torch.tensor([3, 1, 4])
            reader.keep(kept)
            rows = [rows[i] for i in kept.tolist()]
        counts = [(step + i) % 4 + 1 for i in range(len(rows))]
        owners = torch.tensor([i for i, c in enumerate(counts) for _ in range(c)])
        slots = torch.tensor([s for c in counts for s in range(c)])
        ids = torch.randint(3, 67, (len(owners),))
        hidden = reader.fan_out(ids, owners, slots)
        for found, owner, token in zip(hidden, owners.tolist(), ids.tolist(), strict=True):
            torch.testing.assert_close(found, from_scratch(model, [*rows[owner], token])[0], atol=1e-4, rtol=1e-4)
        chosen = torch.tensor([(step * 3 + i) % c for i, c in enumerate(counts)])
        reader.choose(chosen)
        first = torch.tensor([0, *torch.tensor(counts).cumsum(0)[:-1].tolist()])
        rows = [[*row, int(ids[f + c])] for row, f, c in zip(rows, first, chosen, strict=True)]


@torch.no_grad()
def test_the_models_own_attention_is_as_it_was(model: PreTrainedModel) -> None:
    PrefixReader(model, PROMPTS, PLACE).step(torch.full((5,), 3))
    assert model.config._attn_implementation == "eager"
    with pytest.raises(Exception, match=r".*"):
        PrefixReader(model, PROMPTS, PLACE).step(torch.full((5,), 10_000))
    assert model.config._attn_implementation == "eager"


@torch.no_grad()
def test_each_prompt_is_encoded_once(model: PreTrainedModel) -> None:
    seen: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    PrefixReader(model, PROMPTS, torch.arange(3).repeat_interleave(20))
    hook.remove()
    assert seen == [3 * 6]


def test_layers_without_keys_and_values_are_refused() -> None:
    heads = {"head_dim": 8, "linear_num_value_heads": 2, "linear_num_key_heads": 2}
    widths = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "moe_intermediate_size": 16}
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "shared_expert_intermediate_size": 16}
    config = AutoConfig.for_model("qwen3_next", **SIZES, **heads, **widths, **experts)
    with pytest.raises(InputError, match="linear_attention"):
        PrefixReader(AutoModelForCausalLM.from_config(config), PROMPTS, PLACE)

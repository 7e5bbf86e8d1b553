"""A generator and value models in float64: their rounding cannot move a draw across the border between two tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lenvm.backbones import AbstractBackbone, PretrainedBackbone, RandomBackbone, SharedBackbone
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.tokenizer import fingerprint
from lenvm.decoding.generator import load_generator
from lenvm.heads import AbstractHead, ActionValueHead, MLPHead
from lenvm.models import LengthValueModel
from lenvm.playground import POLICY_FOLDER
from lenvm.targets import DiscountedReturn

QUESTIONS = [
    "What is 3+4+5?",
    "Count from 1 to 6.",
    "Write a function that adds two numbers a and b, and show what it gives for 2 and 3.",
    "Spell the word cat.",
]


@pytest.fixture(scope="session")
def policy() -> PreTrainedModel:
    """The playground's policy; read it, do not change it."""
    return load_generator(str(POLICY_FOLDER)).double()


@pytest.fixture(scope="session")
def chats() -> list[list[dict[str, Any]]]:
    """Prompts of different lengths, as messages."""
    return [[{"role": "user", "content": question}] for question in QUESTIONS]


@pytest.fixture(scope="session")
def prompt_ids(tokenizer: PreTrainedTokenizerBase, chats: list[list[dict[str, Any]]]) -> list[list[int]]:
    """The same prompts as token ids."""
    encoded = RolloutEncoder(tokenizer).encode_prompts(chats)
    assert len({len(ids) for ids in encoded}) == len(encoded)
    return encoded


@pytest.fixture(scope="session")
def make_model(tokenizer: PreTrainedTokenizerBase) -> Callable[..., LengthValueModel]:
    """Makes an untrained value model: heads whose predictions differ from token to token, between about 5 and 150."""

    def make(backbone: AbstractBackbone, head: AbstractHead, dtype: torch.dtype = torch.float64) -> LengthValueModel:
        generator = torch.Generator().manual_seed(7)
        for parameter in head.parameters():
            nn.init.normal_(parameter, std=1.5 * parameter.shape[-1] ** -0.5, generator=generator)
        target = DiscountedReturn(gamma=0.97)
        model = LengthValueModel(
            backbone, head.to(dtype), target, tokenizer_fingerprint=fingerprint(tokenizer), shortest_length=2
        )
        return model.eval()

    return make


@pytest.fixture(scope="session")
def small_backbone(tokenizer: PreTrainedTokenizerBase) -> Callable[..., RandomBackbone]:
    """Makes a transformer of its own for a value model: queries share keys, and nothing has the generator's sizes."""

    def make(dtype: Any = "float64", vocab_size: int = len(tokenizer), context: int = 1024) -> RandomBackbone:
        torch.manual_seed(5)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "initializer_range": 0.3}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": context}
        return RandomBackbone({"model_type": "qwen2", "vocab_size": vocab_size, **sizes, **heads}, dtype=dtype)

    return make


@pytest.fixture(scope="session")
def state_model(make_model: Any, small_backbone: Any) -> LengthValueModel:
    """One logit per state, a backbone of its own."""
    return make_model(small_backbone(), MLPHead(32))


@pytest.fixture(scope="session")
def action_model(make_model: Any, small_backbone: Any) -> LengthValueModel:
    """An action-value head, a backbone of its own."""
    return make_model(small_backbone(), ActionValueHead(32, vocab_size=668, rank=8))


@pytest.fixture(scope="session")
def shared_model(make_model: Any, policy: PreTrainedModel) -> LengthValueModel:
    """An action-value head on the generator's own hidden states."""
    model: LengthValueModel = make_model(SharedBackbone(str(POLICY_FOLDER)), ActionValueHead(128, 668, rank=8))
    model.backbone.attach(policy)  # type: ignore[operator]
    return model


@pytest.fixture(scope="session")
def copied_model(make_model: Any) -> LengthValueModel:
    """The same head as `shared_model`, on a copy of the generator."""
    return make_model(PretrainedBackbone(str(POLICY_FOLDER), dtype="float64"), ActionValueHead(128, 668, rank=8))


@pytest.fixture(params=["tree", "action_value", "shared", "shared_tree"])
def steered(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A value model and the scorer to ask it with, as arguments of `generate`."""
    name, scorer = {
        "tree": ("state_model", "tree"),
        "action_value": ("action_model", "action_value"),
        "shared": ("shared_model", "action_value"),
        "shared_tree": ("shared_model", "tree"),
    }[request.param]
    return {"value_model": request.getfixturevalue(name), "scorer": scorer}

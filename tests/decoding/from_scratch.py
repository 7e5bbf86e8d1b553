"""What decoding should give, computed without any cache: every sequence is read from its beginning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lenvm.heads import AbstractActionHead
from lenvm.models import LengthValueModel


@torch.no_grad()
def state_remaining(model: LengthValueModel, ids: Sequence[int]) -> Tensor:
    """The predicted remaining length at every position; (T,)."""
    return model.remaining(torch.tensor([list(ids)]))[0]


@torch.no_grad()
def action_remaining(model: LengthValueModel, ids: Sequence[int]) -> Tensor:
    """The predicted remaining length after every possible token at every position; (T, vocabulary)."""
    assert isinstance(model.head, AbstractActionHead)
    raw = model(torch.tensor([list(ids)]))[0]
    every = torch.arange(model.backbone.vocab_size).expand(len(raw), -1)
    return model.head.next_remaining(raw, every, model.target)


@torch.no_grad()
def next_logits(generator: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """The generator's logits at every position; (T, vocabulary)."""
    logits: Tensor = generator(input_ids=torch.tensor([list(ids)])).logits[0]
    return logits


@contextmanager
def tokens_read(model: nn.Module) -> Iterator[list[int]]:
    """How many tokens the embedding of a transformer looks up in each pass."""
    seen: list[int] = []
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    hook = embedding.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    try:
        yield seen
    finally:
        hook.remove()

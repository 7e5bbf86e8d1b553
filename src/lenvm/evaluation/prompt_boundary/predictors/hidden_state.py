"""What the generator itself knows of the length when it has read the prompt."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from lenvm.backbones.pretrained import load_transformer
from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary.predictors.base import (
    AbstractLengthPredictor,
    Floats,
    PromptTable,
    Vectors,
    ridge_on_log_length,
)


class PooledStates(NamedTuple):
    """Last-layer hidden states of prompts.

    Attributes:
        last: at the last prompt token, from which the first completion token is drawn; (P, d).
        mean: their mean over the prompt's tokens; (P, d).
    """

    last: Vectors
    mean: Vectors


class GeneratorStates:
    """Reads prompts with the generator, each table once.

    Args:
        name: the generator on the hub or in a folder.
        batch_size: prompts per forward pass.
    """

    def __init__(self, name: str, batch_size: int = 64) -> None:
        self.name, self.batch_size = name, batch_size
        self._model: PreTrainedModel | None = None
        # the table is kept, too: its id is then not given to another
        self._read: dict[int, tuple[PromptTable, PooledStates]] = {}

    def of(self, table: PromptTable) -> PooledStates:
        """The states of a table's prompts."""
        if id(table) not in self._read:
            self._model = self._model or on_device(self.name)
            self._read[id(table)] = table, pooled_states(self._model, table.token_ids, self.batch_size)
        return self._read[id(table)][1]


class HiddenStateProbe(AbstractLengthPredictor):
    """A linear probe: ridge regression of log length on the generator's hidden state at the last prompt token.

    Args:
        states: where hidden states come from.
    """

    name = "hidden-state probe"

    def __init__(self, states: GeneratorStates) -> None:
        self.states = states

    def fit(self, table: PromptTable) -> None:
        self.model = ridge_on_log_length().fit(self.states.of(table).last, table.lengths)

    def predict(self, table: PromptTable) -> Floats:
        return np.asarray(self.model.predict(self.states.of(table).last))


@torch.inference_mode()
def pooled_states(model: PreTrainedModel, prompts: list[list[int]], batch_size: int) -> PooledStates:
    """Last-layer hidden states of prompts, pooled in two ways.

    Args:
        model: a transformer without a head.
        prompts: token ids of each.
        batch_size: prompts per forward pass.

    Raises:
        InputError: if a prompt does not fit into the model's context.
    """
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, prompts))
    if context is not None and longest > context:
        raise InputError(
            f"a prompt has {longest} tokens, more than the {context} of {model.config.name_or_path}; take that prompt "
            "out of the rollouts."
        )
    shape = len(prompts), model.config.get_text_config().hidden_size
    last, mean = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        ids = nn.utils.rnn.pad_sequence([torch.tensor(prompts[i]) for i in chosen], batch_first=True)
        sizes = torch.tensor([len(prompts[i]) for i in chosen])
        mask = torch.arange(ids.shape[1]) < sizes[:, None]
        hidden = model(input_ids=ids.to(model.device), attention_mask=mask.long().to(model.device)).last_hidden_state
        hidden = hidden.double().cpu()
        last[chosen] = hidden[torch.arange(len(chosen)), sizes - 1].numpy()
        mean[chosen] = ((hidden * mask[..., None]).sum(1) / sizes[:, None]).numpy()
    return PooledStates(last, mean)


def on_device(name: str) -> PreTrainedModel:
    """A transformer without a head, ready to read: on the GPU in bfloat16, where there is one."""
    on_gpu = torch.cuda.is_available()
    model = load_transformer(name, None, "bfloat16" if on_gpu else "float32", "sdpa")
    if on_gpu:
        model.to("cuda")  # type: ignore[arg-type]
    model.eval()
    return model

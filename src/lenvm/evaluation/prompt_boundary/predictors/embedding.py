"""What the prompt is about, as a vector."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from transformers import AutoTokenizer

from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary.predictors.base import (
    AbstractLengthPredictor,
    Floats,
    PromptTable,
    Vectors,
    ridge_on_log_length,
)
from lenvm.evaluation.prompt_boundary.predictors.hidden_state import GeneratorStates, on_device, pooled_states

_UNLIMITED = 1 << 20


class AbstractPromptEmbedding(ABC):
    """One vector per prompt."""

    @abstractmethod
    def of(self, table: PromptTable) -> Vectors:
        """Embeddings of a table's prompts; (P, d)."""


class MeanState(AbstractPromptEmbedding):
    """The mean over the prompt's tokens of the generator's last-layer hidden states: nothing else is loaded.

    Args:
        states: where hidden states come from.
    """

    def __init__(self, states: GeneratorStates) -> None:
        self.states = states

    def of(self, table: PromptTable) -> Vectors:
        return self.states.of(table).mean


class TextEncoder(AbstractPromptEmbedding):
    """The mean of the last-layer hidden states of any encoder of texts; a longer prompt loses its end.

    Args:
        name: a transformer with its tokenizer, such as a sentence encoder, on the hub or in a folder.
        batch_size: prompts per forward pass.
    """

    def __init__(self, name: str, batch_size: int = 64) -> None:
        self.batch_size = batch_size
        self._model = on_device(name)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(" .:")
            raise InputError(f"could not load the tokenizer of the encoder {name!r}: {reason}.") from error
        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", _UNLIMITED)
        self._longest = min(context, self._tokenizer.model_max_length, _UNLIMITED)

    def of(self, table: PromptTable) -> Vectors:
        ids = self._tokenizer(table.texts, truncation=True, max_length=self._longest).input_ids
        return pooled_states(self._model, ids, self.batch_size).mean


class PromptEmbeddingRegression(AbstractLengthPredictor):
    """Ridge regression of log length on an embedding of the prompt.

    Args:
        embedding: a vector per prompt.
    """

    name = "prompt embedding"

    def __init__(self, embedding: AbstractPromptEmbedding) -> None:
        self.embedding = embedding

    def fit(self, table: PromptTable) -> None:
        self.model = ridge_on_log_length().fit(self.embedding.of(table), table.lengths)

    def predict(self, table: PromptTable) -> Floats:
        return np.asarray(self.model.predict(self.embedding.of(table)))

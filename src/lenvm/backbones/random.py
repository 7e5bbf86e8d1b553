"""A backbone with random weights."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, AutoModel

from lenvm.backbones.base import AbstractOwnBackbone, DType, Freezing, torch_dtype
from lenvm.errors import InputError


class RandomBackbone(AbstractOwnBackbone):
    """Builds a transformer from a configuration and starts from random weights.

    Args:
        config: a transformers configuration with its `model_type`, for example
            `{model_type: qwen2, vocab_size: 151665, hidden_size: 128, num_hidden_layers: 2}`.
        dtype: type of the weights.
        attention: attention implementation of transformers: `sdpa`, `eager`, `flash_attention_2`, ...
        freeze: `none`; `backbone` trains the head alone; a number k freezes the embeddings and the first k layers.
    """

    def __init__(
        self,
        config: dict[str, Any],
        dtype: DType = "float32",
        attention: str = "sdpa",
        freeze: Freezing = "none",
    ) -> None:
        options = dict(config)
        model_type = options.pop("model_type", None)
        if model_type is None:
            raise InputError("`config` of a RandomBackbone needs a `model_type`, such as `qwen2`.")
        try:
            built = AutoConfig.for_model(model_type, **options)
            transformer = AutoModel.from_config(built, attn_implementation=attention, dtype=torch_dtype(dtype))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"transformers cannot build a {model_type!r} backbone from `config`: {error}") from error
        super().__init__(transformer, freeze)

"""The generator's own hidden states: a value model that is nothing but a head."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from lenvm.backbones.base import AbstractBackbone, DType
from lenvm.backbones.pretrained import load_transformer
from lenvm.errors import InputError


class SharedBackbone(AbstractBackbone):
    """Reads the last hidden states of the frozen generator.

    The generator is no part of the value model: none of its weights is trained, saved, or written to a checkpoint. It
    is loaded at the first use, or never where `attach` brings one that is loaded already.

    Args:
        generator: the generator's name on the hub, or a folder with safetensors.
        revision: branch, tag or commit on the hub.
        dtype: type of the weights, where they are loaded here; hidden states should be those of decoding.
        attention: attention implementation of transformers, where the weights are loaded here.
        config: the generator's transformers configuration, with its `model_type`; left out, it is read from the
            generator.
    """

    def __init__(
        self,
        generator: str,
        revision: str | None = None,
        dtype: DType = "float32",
        attention: str = "sdpa",
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.revision, self.dtype, self.attention = generator, revision, dtype, attention
        self._config = _read_config(generator, revision) if config is None else _built_config(config)
        # in a list, so that it is no submodule: its weights are not ours to move, train, count or save
        self._loaded: list[PreTrainedModel] = []
        self._attached = False

    @property
    def options(self) -> dict[str, Any]:
        """The constructor arguments besides `config`, to write the backbone into a model's config.json."""
        return {name: getattr(self, name) for name in ("generator", "revision", "dtype", "attention")}

    @property
    def config(self) -> PretrainedConfig:
        return self._config

    @property
    def source(self) -> str | None:
        return self.generator

    @property
    def transformer(self) -> PreTrainedModel:  # type: ignore[override]
        """The generator's transformer, loaded now if it was not."""
        if not self._loaded:
            model = load_transformer(self.generator, self.revision, self.dtype, self.attention)
            self._check(model)
            self._loaded = [model.requires_grad_(False).eval()]
        return self._loaded[0]

    def attach(self, generator: PreTrainedModel) -> None:
        """Takes a generator that is loaded already, as it is; it is neither moved nor changed.

        Args:
            generator: the causal language model, or its body.

        Raises:
            InputError: if it is another model than the one that the value model was trained on.
        """
        body = cast(PreTrainedModel, generator.base_model)
        self._check(body)
        self._loaded, self._attached = [body], True

    @torch.no_grad()
    def forward(self, input_ids: Tensor) -> Tensor:
        transformer = self.transformer
        if not self._attached and transformer.device != input_ids.device:
            transformer.to(input_ids.device)  # type: ignore[arg-type]
        return super().forward(input_ids)

    def _check(self, model: PreTrainedModel) -> None:
        names = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
        expected, given = (
            {name: getattr(config.get_text_config(), name, None) for name in names}
            for config in (self._config, model.config)
        )
        if expected != given:
            raise InputError(
                f"this value model reads the hidden states of {self.generator!r} ({expected}), but was given another "
                f"generator ({given}); use the generator that it was trained on."
            )


def _read_config(generator: str, revision: str | None) -> PretrainedConfig:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(generator, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"could not read the configuration of the generator {generator!r}: {reason} A shared backbone needs the "
            "name or folder of the generator."
        ) from error
    return config


def _built_config(options: dict[str, Any]) -> PretrainedConfig:
    options = dict(options)
    model_type = options.pop("model_type", None)
    if model_type is None:
        raise InputError("`config` of a SharedBackbone needs a `model_type`, such as `qwen2`.")
    try:
        config: PretrainedConfig = AutoConfig.for_model(model_type, **options)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"transformers does not know the generator that `config` describes: {error}") from error
    return config

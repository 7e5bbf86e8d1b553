"""What all methods of a decoding evaluation share: generator, value models, and sampling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lenvm import decoding
from lenvm.data.encoding import PromptFormat, RolloutEncoder
from lenvm.data.rollout import BadRowError, Prompt
from lenvm.data.tokenizer import load_tokenizer
from lenvm.decoding.generate import Completion, stream
from lenvm.decoding.generator import context_length, load_generator, room_for
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.models import LengthValueModel

_HASHED_VALUES = 4096


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How completions are written in one evaluation, whatever the method.

    Args:
        generator: the language model.
        generator_name: its name or folder.
        tokenizer: its tokenizer.
        value_model: name or folder of the length value model of methods that do not name their own.
        sampling: candidate filters, token limit and seed.
        num_samples: completions per prompt.
        prompt_format: how prompts become tokens.
        batch_size: completions written at a time.
    """

    generator: PreTrainedModel
    generator_name: str
    tokenizer: PreTrainedTokenizerBase
    value_model: str | None
    sampling: SamplingSettings
    num_samples: int
    prompt_format: PromptFormat
    batch_size: int
    _models: dict[str, LengthValueModel] = field(default_factory=dict, repr=False)

    def model(self, name: str | None) -> LengthValueModel:
        """The value model of this name, or the evaluation's; loaded once.

        Raises:
            InputError: if neither is given.
        """
        name = name or self.value_model
        if name is None:
            raise InputError("a guided method needs a value model; give `--value_model`, or one to the method itself.")
        if name not in self._models:
            self._models[name] = LengthValueModel.from_pretrained(name)
        return self._models[name]

    def stream(self, prompts: Sequence[Prompt], **options: Any) -> Iterator[Completion]:
        """Completions of prompts, with the generator's own log-probabilities; `options` are those of `stream`."""
        settings: dict[str, Any] = {
            "sampling": self.sampling,
            "num_samples": self.num_samples,
            "prompt_format": self.prompt_format,
            "batch_size": self.batch_size,
            "with_log_probs": True,
        }
        value_model = options.pop("value_model", None)
        return stream(self.generator, self.tokenizer, value_model, prompts, **settings | options)

    def smallest_room(self, prompts: Sequence[Prompt], model: LengthValueModel) -> int:
        """Tokens that the completion of every one of these prompts may have, with this value model.

        Raises:
            InputError: if a prompt cannot be encoded or fills a context.
        """
        try:
            encoded = RolloutEncoder(self.tokenizer, self.prompt_format).encode_prompts(prompts)
        except BadRowError as error:
            raise InputError(f"`prompts`: {error}.") from error
        contexts = [context_length(self.generator), model.backbone.context_length]
        return min(room_for(f"prompt {i}", ids, contexts, self.sampling.max_tokens) for i, ids in enumerate(encoded))

    def described(self) -> dict[str, Any]:
        """Everything here that decides what is written, as JSON."""
        return {
            "decoding code": _code_digest(),
            "generator": f"{self.generator_name} {weights_digest(self.generator)}",
            **self.sampling.described(),
            "num_samples": self.num_samples,
            "prompt_format": self.prompt_format,
        }


def load_setup(
    generator: str,
    value_model: str | None,
    sampling: SamplingSettings,
    num_samples: int,
    prompt_format: PromptFormat | None,
    batch_size: int,
) -> Setup:
    """Loads the generator; prompts are formatted as the value model was trained, unless it is said otherwise."""
    if num_samples < 1:
        raise InputError(f"`num_samples` must be at least 1, got {num_samples}.")
    setup = Setup(
        generator=load_generator(generator),
        generator_name=generator,
        tokenizer=load_tokenizer(generator),
        value_model=value_model,
        sampling=sampling,
        num_samples=num_samples,
        prompt_format=prompt_format or "auto",
        batch_size=batch_size,
    )
    if prompt_format is None and value_model is not None:
        learned: Any = setup.model(value_model).prompt_format
        return replace(setup, prompt_format=learned)
    return setup


def weights_digest(module: nn.Module) -> str:
    """A short hash that changes whenever the weights are trained: of the first values of every tensor."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        values = tensor.detach().flatten()[:_HASHED_VALUES].contiguous().cpu().view(torch.uint8)
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()[:16]


def _code_digest() -> str:
    """A short hash of the code that decodes: completions of two versions are not to stand in one table."""
    digest = hashlib.sha256()
    for file in sorted(Path(decoding.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]

"""The language model that writes: loading it, its prompts, where its completions end, and how long they can be."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from lenvm.data.encoding import PromptFormat, RolloutEncoder
from lenvm.data.rollout import BadRowError, Prompt
from lenvm.errors import InputError
from lenvm.models import LengthValueModel

_HASHED_BYTES = 1 << 22
AnyPrompt = Prompt | list[int]
"""A text, chat messages, or token ids."""


def load_generator(name: str, revision: str | None = None) -> PreTrainedModel:
    """Loads a causal language model by hub name or folder, onto the GPU if there is one."""
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, dtype="auto", use_safetensors=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(" .:")
        raise InputError(f"could not load the generator {name!r}: {reason}. Check the name or folder.") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)  # type: ignore[arg-type]
    model.eval()
    return model


def identity(name: str, revision: str | None = None) -> str:
    """Which weights a name stands for today: the commit on the hub, or a hash of what lies in a folder.

    Raises:
        InputError: if there is no such model.
    """
    if not Path(name).is_dir():
        try:
            commit: str | None = getattr(AutoConfig.from_pretrained(name, revision=revision), "_commit_hash", None)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(" .:")
            raise InputError(f"could not find the generator {name!r}: {reason}. Check the name or folder.") from error
        return commit or revision or "unknown"
    digest = hashlib.sha256()
    for file in sorted(Path(name).iterdir()):
        if file.suffix in (".safetensors", ".json"):
            with file.open("rb") as content:
                digest.update(f"{file.name} {file.stat().st_size}".encode() + content.read(_HASHED_BYTES))
    return f"folder {digest.hexdigest()[:16]}"


def context_length(model: PreTrainedModel) -> int | None:
    """The longest sequence, in tokens, that the positions were made for; None if there is no such limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a completion, by the generation configuration and by the tokenizer.

    Raises:
        InputError: if there is none.
    """
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    ids = sorted({i for i in [*ids, tokenizer.eos_token_id] if i is not None})
    if not ids:
        raise InputError("the generator has no end-of-text token, so no completion ever ends; set `eos_token_id`.")
    return ids


def room_for(name: str, prompt_ids: Sequence[int], contexts: Sequence[int | None], max_tokens: int) -> int:
    """How many tokens a completion of this prompt may have.

    Args:
        name: what to call the prompt in errors.
        prompt_ids: its tokens.
        contexts: context lengths of the models that read it.
        max_tokens: the sampler's limit.

    Raises:
        InputError: if the prompt has no tokens, or fills a context.
    """
    if not prompt_ids:
        raise InputError(f"{name} has no tokens; drop empty prompts.")
    context = min((c for c in contexts if c is not None), default=None)
    if context is None:
        return max_tokens
    if len(prompt_ids) >= context:
        raise InputError(f"{name} has {len(prompt_ids)} tokens and fills the context of {context}; drop or shorten it.")
    return min(max_tokens, context - len(prompt_ids))


def encode(
    prompts: Sequence[AnyPrompt],
    tokenizer: PreTrainedTokenizerBase,
    model: LengthValueModel | None,
    prompt_format: PromptFormat | None,
) -> list[list[int]]:
    """Token ids of prompts, as the value model knows prompts; what are token ids already is taken as it is.

    Raises:
        InputError: if a prompt cannot be encoded.
    """
    written_as: Any = prompt_format or (model.prompt_format if model is not None else "auto")
    encoder = RolloutEncoder(tokenizer, written_as)
    if isinstance(prompts, str) or not all(isinstance(prompt, str | list) for prompt in prompts):
        raise InputError(
            "`prompts` must be a list whose entries are texts, lists of chat messages or lists of token ids, got "
            f"{prompts!r:.80}; put a single prompt into a list."
        )
    encoded = []
    for i, prompt in enumerate(prompts):
        if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
            encoded.append(cast(list[int], prompt))
            continue
        try:
            encoded += encoder.encode_prompts([cast(Prompt, prompt)])
        except BadRowError as error:
            raise InputError(f"prompt {i}: {error}.") from error
    return encoded


def check_ids(prompt_ids: list[list[int]], generator: PreTrainedModel, model: LengthValueModel | None) -> None:
    """Makes sure that all models know the tokens of the prompts.

    Raises:
        InputError: if one does not.
    """
    known = generator.config.get_text_config().vocab_size
    if model is not None:
        known = min(known, model.backbone.vocab_size)
    for i, ids in enumerate(prompt_ids):
        if ids and not (min(ids) >= 0 and max(ids) < known):
            raise InputError(
                f"prompt {i} has token ids from {min(ids)} to {max(ids)}, but the models know 0 to {known - 1}; use "
                "the generator's own tokenizer."
            )

"""The language model that writes: loading it, where its completions end, and how long they can be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from lenvm.errors import InputError


def load_generator(name: str, revision: str | None = None) -> PreTrainedModel:
    """Loads a causal language model by hub name or folder, onto the GPU if there is one."""
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, dtype="auto", use_safetensors=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"could not load the generator {name!r}: {reason} Check the name or folder.") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)  # type: ignore[arg-type]
    model.eval()
    return model


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

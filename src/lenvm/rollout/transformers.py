"""Sampling with plain transformers: batched, prompts encoded once, finished rows dropped, reproducible row by row."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError
from lenvm.rollout.settings import SamplingSettings

_COMPACT_BELOW = 0.75


class SamplingRequest(NamedTuple):
    """A prompt to complete.

    Attributes:
        prompt_ids: its token ids, with chat template where the generator wants one.
        rollout: what is known of the rollouts to be: prompt, prompt_id, domain, reference.
    """

    prompt_ids: list[int]
    rollout: Rollout


class _Row(NamedTuple):
    request: int
    sample: int


@dataclass
class _Batch:
    """The rows in flight: tensors have one entry per row; a row that has ended waits to leave with others."""

    rows: list[_Row]
    cache: DynamicCache
    mask: Tensor
    last: Tensor
    uniforms: Tensor
    room: Tensor  # tokens that each row may have, by the sampler's limit and the generator's context
    finished: Tensor  # whether each row has ended by itself
    tokens: list[Tensor] = field(default_factory=list)


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


class TransformersSampler:
    """Samples completions of prompts from a causal language model.

    Each completion depends on seed, prompt id and sample number alone (up to rounding in the model), not on the batch.

    Args:
        model: the generator.
        tokenizer: its tokenizer, to turn ids into text.
        settings: the decoding policy.
        batch_size: completions written at a time.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: SamplingSettings,
        batch_size: int = 512,
    ) -> None:
        self.model, self.tokenizer, self.settings, self.batch_size = model, tokenizer, settings, batch_size
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._eos = torch.tensor(_eos_ids(model, tokenizer), device=model.device)
        # transformers' own order: temperature, top-k, top-p, min-p
        warpers: list[LogitsProcessor] = []
        if settings.temperature != 1.0:
            warpers.append(TemperatureLogitsWarper(settings.temperature))
        if settings.top_k:
            warpers.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p < 1.0:
            warpers.append(TopPLogitsWarper(settings.top_p))
        if settings.min_p:
            warpers.append(MinPLogitsWarper(settings.min_p))
        self._warpers = LogitsProcessorList(warpers)

    def sample(self, requests: Sequence[SamplingRequest], num_samples: int) -> Iterator[Rollout]:
        """Yields `num_samples` completions of each request, as they are finished, in no particular order.

        Raises:
            InputError: if a prompt leaves no room in the generator's context.
        """
        context = self._context
        for request in requests:
            if not request.prompt_ids:
                raise InputError(f"prompt {request.rollout.prompt_id} has no tokens; drop empty prompts.")
            if context is not None and len(request.prompt_ids) >= context:
                raise InputError(
                    f"prompt {request.rollout.prompt_id} has {len(request.prompt_ids)} tokens and fills the "
                    f"generator's context of {context}; drop or shorten it."
                )
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
        rows = [_Row(i, sample) for i in order for sample in range(num_samples)]
        for start in range(0, len(rows), self.batch_size):
            yield from self._complete(requests, rows[start : start + self.batch_size])

    @torch.inference_mode()
    def _complete(self, requests: Sequence[SamplingRequest], rows: list[_Row]) -> Iterator[Rollout]:
        batch, logits = self._prefill(requests, rows)
        step = 0
        while batch.rows:
            batch.last = self._draw(logits, batch.uniforms[:, step])
            batch.tokens.append(batch.last)
            step += 1
            batch.finished |= torch.isin(batch.last, self._eos) & (step <= batch.room)
            ended = batch.finished | (step >= batch.room)
            if ended.all() or ended.float().mean() > 1 - _COMPACT_BELOW:
                yield from self._ended(requests, batch, ended)
                _keep(batch, ~ended)
            if batch.rows:
                logits = self._advance(batch)

    def _prefill(self, requests: Sequence[SamplingRequest], rows: list[_Row]) -> tuple[_Batch, Tensor]:
        """Encodes each prompt once, padded on the left, and repeats its cache for its samples."""
        device = self.model.device
        numbers = sorted({row.request for row in rows}, key=[row.request for row in rows].index)
        prompts = [requests[i].prompt_ids for i in numbers]
        width = max(map(len, prompts))
        input_ids = torch.zeros((len(prompts), width), dtype=torch.long, device=device)
        mask = torch.zeros_like(input_ids)
        for i, ids in enumerate(prompts):
            input_ids[i, width - len(ids) :] = torch.tensor(ids, device=device)
            mask[i, width - len(ids) :] = 1
        cache = DynamicCache(config=self.model.config)
        output = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp_min(0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        place = torch.tensor([numbers.index(row.request) for row in rows], device=device)
        cache.batch_select_indices(place)
        uniforms = torch.stack([self._uniforms(requests[row.request].rollout.prompt_id, row.sample) for row in rows])
        mask = mask[place]
        room = torch.full((len(rows),), self.settings.max_tokens, device=device)
        if self._context is not None:
            room = room.clamp_max(self._context - mask.sum(-1))
        finished = torch.zeros(len(rows), dtype=torch.bool, device=device)
        batch = _Batch(list(rows), cache, mask, torch.empty(0), uniforms.to(device), room, finished)
        return batch, output.logits[:, -1][place]

    def _advance(self, batch: _Batch) -> Tensor:
        batch.mask = torch.cat([batch.mask, batch.mask.new_ones(len(batch.rows), 1)], dim=1)
        output = self.model(
            input_ids=batch.last[:, None],
            attention_mask=batch.mask,
            # a row that has ended and waits for others may stand where the model has no position any more
            position_ids=(batch.mask.sum(-1, keepdim=True) - 1).clamp_max((self._context or sys.maxsize) - 1),
            past_key_values=batch.cache,
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _draw(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """One token per row by inverting the cumulative distribution at the row's own random number."""
        no_history: Any = None  # none of the filters looks at the tokens before
        scores = self._warpers(no_history, logits.float())
        cumulative = torch.softmax(scores, -1).double().cumsum(-1)
        return (
            torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True)
            .squeeze(-1)
            .clamp_max(logits.shape[-1] - 1)
        )

    def _uniforms(self, prompt_id: str, sample: int) -> Tensor:
        digest = hashlib.sha256(f"{self.settings.seed}/{prompt_id}/{sample}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.rand(self.settings.max_tokens, generator=generator, dtype=torch.float64)

    def _ended(self, requests: Sequence[SamplingRequest], batch: _Batch, which: Tensor) -> Iterator[Rollout]:
        """The chosen rows as rollouts, cut after their first end-of-text token or where their room ends."""
        chosen = which.nonzero().flatten().tolist()
        written = torch.stack([column[which] for column in batch.tokens], dim=1).tolist()
        rooms, finished = batch.room[which].tolist(), batch.finished[which].tolist()
        eos = set(self._eos.tolist())
        completions = [_cut(ids[:room], eos) for ids, room in zip(written, rooms, strict=True)]
        texts = self.tokenizer.batch_decode([ids[:-1] if ids[-1] in eos else ids for ids in completions])
        for i, ids, text, natural in zip(chosen, completions, texts, finished, strict=True):
            request = requests[batch.rows[i].request]
            known = vars(request.rollout) | {
                "completion": text,
                "prompt_ids": request.prompt_ids,
                "completion_ids": ids,
                "finish_reason": "stop" if natural else "length",
                "metadata": {"sample": batch.rows[i].sample},
            }
            yield Rollout(**known)


def _keep(batch: _Batch, which: Tensor) -> None:
    """Drops the other rows, so that no time is spent on them."""
    kept = which.nonzero().flatten()
    batch.rows = [batch.rows[i] for i in kept.tolist()]
    batch.cache.batch_select_indices(kept)
    batch.mask, batch.last, batch.uniforms = batch.mask[kept], batch.last[kept], batch.uniforms[kept]
    batch.room, batch.finished = batch.room[kept], batch.finished[kept]
    batch.tokens = [column[kept] for column in batch.tokens]


def _cut(ids: list[int], eos: set[int]) -> list[int]:
    """`ids` up to and including the first end-of-text token; rows wait for others after it."""
    end = next((i for i, token in enumerate(ids) if token in eos), len(ids) - 1)
    return ids[: end + 1]


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    ids = sorted({i for i in [*ids, tokenizer.eos_token_id] if i is not None})
    if not ids:
        raise InputError("the generator has no end-of-text token, so no completion ever ends; set `eos_token_id`.")
    return ids

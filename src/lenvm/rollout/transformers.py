"""Sampling with plain transformers: batched, prompts encoded once, finished rows dropped, reproducible row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lenvm.data.rollout import Rollout
from lenvm.decoding.generator import context_length, eos_ids, room_for
from lenvm.decoding.loop import Row, Written, decode
from lenvm.decoding.settings import SamplingSettings


class SamplingRequest(NamedTuple):
    """A prompt to complete.

    Attributes:
        prompt_ids: its token ids, with chat template where the generator wants one.
        rollout: what is known of the rollouts to be: prompt, prompt_id, domain, reference.
    """

    prompt_ids: list[int]
    rollout: Rollout


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
        self._eos = eos_ids(model, tokenizer)

    def sample(self, requests: Sequence[SamplingRequest], num_samples: int) -> Iterator[Rollout]:
        """Yields `num_samples` completions of each request, as they are finished, in no particular order.

        Raises:
            InputError: if a prompt leaves no room in the generator's context.
        """
        contexts, limit = [context_length(self.model)], self.settings.max_tokens
        rooms = [room_for(f"prompt {r.rollout.prompt_id}", r.prompt_ids, contexts, limit) for r in requests]
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
        rows = [(i, sample) for i in order for sample in range(num_samples)]
        for start in range(0, len(rows), self.batch_size):
            lines = rows[start : start + self.batch_size]
            mine = sorted({i for i, _ in lines})
            batch = [Row(mine.index(i), f"{requests[i].rollout.prompt_id}/{sample}", rooms[i]) for i, sample in lines]
            prompts = [requests[i].prompt_ids for i in mine]
            for written in decode(self.model, prompts, batch, self._eos, self.settings):
                i, sample = lines[written.row]
                yield self._rollout(requests[i], sample, written)

    def _rollout(self, request: SamplingRequest, sample: int, written: Written) -> Rollout:
        shown = written.ids[:-1] if written.finished else written.ids
        known = vars(request.rollout) | {
            "completion": self.tokenizer.decode(shown),
            "prompt_ids": request.prompt_ids,
            "completion_ids": written.ids,
            "finish_reason": "stop" if written.finished else "length",
            "metadata": {"sample": sample},
        }
        return Rollout(**known)

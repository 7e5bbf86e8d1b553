"""Sampling with plain transformers: prompts encoded once, finished rows dropped, reproducible row by row."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lenvm.data.rollout import Rollout
from lenvm.decoding.generator import context_length, eos_ids, load_generator, room_for
from lenvm.decoding.loop import Row, Written, decode
from lenvm.decoding.settings import SamplingSettings, cut_at_stop
from lenvm.errors import InputError
from lenvm.rollout.engines.base import AbstractEngine, Failed, Outcome, Policy, SamplingRequest

_WINDOW = 8


@dataclass(frozen=True, kw_only=True)
class TransformersEngine(AbstractEngine):
    """Plain transformers in this process, on a GPU if there is one.

    Each completion depends on seed, prompt id and sample number alone (up to rounding in the model), not on the batch.

    Args:
        batch_size: most completions written at a time; halved for a while when the device has no memory for them.
        batch_tokens: most tokens of a batch, prompts and room for completions together; long prompts then get smaller
            batches. Left out, only `batch_size` counts.
    """

    batch_size: int = 256
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("batch_size", self.batch_size), ("batch_tokens", self.batch_tokens)):
            if value is not None and value < 1:
                raise InputError(f"`{name}` must be at least 1, got {value}.")

    def sample(self, policy: Policy, requests: Iterator[SamplingRequest]) -> Generator[Outcome, None, None]:
        if policy.tokenizer is None:
            raise InputError("the transformers engine needs the generator's tokenizer.")
        model = load_generator(policy.generator, policy.revision)
        sampler = TransformersSampler(model, policy.tokenizer, policy.sampling, self.batch_size, self.batch_tokens)
        yield from sampler.sample(requests)

    def described(self) -> dict[str, Any]:
        return {"engine": "transformers"}

    def versions(self) -> dict[str, str]:
        return {"transformers": transformers.__version__, "torch": torch.__version__}


class _Line(NamedTuple):
    """A completion to write: its request, the number of the sample, and the tokens it may have."""

    request: SamplingRequest
    sample: int
    room: int

    @property
    def prompt_ids(self) -> list[int]:
        return self.request.prompt_ids or []

    @property
    def tokens(self) -> int:
        return len(self.prompt_ids) + self.room


class TransformersSampler:
    """Samples completions of prompts from a causal language model.

    Args:
        model: the generator.
        tokenizer: its tokenizer, to turn ids into text.
        settings: the decoding policy.
        batch_size: most completions written at a time.
        batch_tokens: most tokens of a batch, prompts and room together; None for no such limit.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: SamplingSettings,
        batch_size: int = 512,
        batch_tokens: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self._eos = eos_ids(model, tokenizer)

    def sample(self, requests: Iterable[SamplingRequest]) -> Iterator[Outcome]:
        """Yields completions as they are finished, in no particular order; prompts that do not fit are `Failed`.

        A window of requests is sorted by the length of their prompts, so that a batch has prompts of like length.
        """
        rows: list[_Line] = []
        for request in requests:
            try:
                room = self._room(request)
            except InputError as error:
                yield Failed(request.rollout.prompt_id, str(error))
                continue
            rows += [_Line(request, sample, room) for sample in request.samples]
            if len(rows) >= _WINDOW * self.batch_size:
                yield from self._window(rows)
                rows = []
        yield from self._window(rows)

    def _room(self, request: SamplingRequest) -> int:
        name = f"prompt {request.rollout.prompt_id}"
        if request.rollout.images:
            raise InputError(f"{name} has images, which this engine does not read; use `vllm` or `openai`.")
        return room_for(name, request.prompt_ids or [], [context_length(self.model)], self.settings.max_tokens)

    def _window(self, rows: list[_Line]) -> Iterator[Rollout]:
        rows = sorted(rows, key=lambda row: len(row.prompt_ids))
        while rows:
            count = self._fitting(rows)
            yield from self._write(rows[:count])
            rows = rows[count:]

    def _fitting(self, rows: list[_Line]) -> int:
        """How many of these rows, from the first, make a batch; at least one."""
        count, widest = 0, 0
        for row in rows[: self.batch_size]:
            widest = max(widest, row.tokens)
            if self.batch_tokens is not None and count and widest * (count + 1) > self.batch_tokens:
                break
            count += 1
        return count

    def _write(self, rows: list[_Line]) -> Iterator[Rollout]:
        requests = {id(row.request): row.request for row in rows}
        number = {key: i for i, key in enumerate(requests)}
        prompts = [request.prompt_ids or [] for request in requests.values()]
        batch = [
            Row(number[id(row.request)], f"{row.request.rollout.prompt_id}/{row.sample}", row.room) for row in rows
        ]
        left = set(range(len(rows)))
        try:
            for written in decode(self.model, prompts, batch, self._eos, self.settings, tokenizer=self.tokenizer):
                left.remove(written.row)
                yield self._rollout(rows[written.row], written)
            return
        except torch.OutOfMemoryError:
            if len(left) == 1:
                raise
            torch.cuda.empty_cache()
        # outside of the handler, whose traceback would keep the tensors of the batch alive
        rest = [rows[i] for i in sorted(left)]
        middle = max(len(rest) // 2, 1)
        yield from chain(self._write(rest[:middle]), self._write(rest[middle:]))

    def _rollout(self, row: _Line, written: Written) -> Rollout:
        ended = written.ids[-1] in self._eos
        text = str(self.tokenizer.decode(written.ids[:-1] if ended else written.ids))
        if not written.finished:
            return row.request.completed(row.sample, text, written.ids, "length")
        if ended:
            return row.request.completed(row.sample, text, written.ids, "stop")
        stop, text = cut_at_stop(text, self.settings.stop)
        return row.request.completed(row.sample, text, written.ids, "stop", stop=stop)

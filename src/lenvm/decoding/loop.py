"""The decoding loop: one batch of rows from prompts to completions, with or without guidance.

Rows do not influence each other: random numbers, rules and limits are each row's own, so a row gets in any batch what
it gets alone (up to rounding in the models).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase, StopStringCriteria

from lenvm.decoding.candidates import candidates, draw, is_among, random_numbers
from lenvm.decoding.guidance import Guidance, Steering
from lenvm.decoding.precision import finest_float
from lenvm.decoding.prefix import PrefixReader, left_padded
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError

_LEAVE_ABOVE = 0.25
"""Rows that have ended leave the batch when they are more than this share of it: leaving copies the cache."""


class Row(NamedTuple):
    """One completion to write.

    Attributes:
        prompt: number of its prompt.
        key: text that, with the seed, decides its random numbers.
        room: tokens it may have.
    """

    prompt: int
    key: str
    room: int


class Written(NamedTuple):
    """One completion; lists have one entry per token, EOS included.

    Attributes:
        row: its number among the rows given.
        ids: token ids.
        finished: whether it ended by itself, or with a stop text.
        remaining: predicted number of tokens after each token; empty without guidance.
        log_probs: the generator's own log-probability of each token, at temperature 1 and without filters; empty
            unless asked for.
    """

    row: int
    ids: list[int]
    finished: bool
    remaining: list[float]
    log_probs: list[float]


class Step(NamedTuple):
    """What a listener is told after each token: the rows that are still written, and their newest token.

    Attributes:
        rows: numbers of the rows; (B,).
        ids: newest token of each; (B,).
        remaining: predicted number of tokens after it; (B,), None without guidance.
    """

    rows: list[int]
    ids: list[int]
    remaining: list[float] | None


@torch.inference_mode()
def decode(
    generator: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    eos_ids: Sequence[int],
    settings: SamplingSettings,
    *,
    guidance: Guidance | None = None,
    processors: LogitsProcessorList | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    with_log_probs: bool = False,
    listener: Callable[[Step], None] | None = None,
) -> Iterator[Written]:
    """Writes one batch of completions.

    Args:
        generator: the language model.
        prompts: token ids of each prompt; encoded once, however many rows share it.
        rows: the completions to write.
        eos_ids: tokens that end a completion.
        settings: filters, stop texts and seed; its `max_tokens` is not looked at, since every row has its own room.
        guidance: value model, scorer and rule; None samples plainly.
        processors: transformers' logits processors, applied before the filters; they see prompts padded on the left.
        tokenizer: knows which tokens write a stop text; needed if there are stop texts.
        with_log_probs: also return the generator's own log-probabilities, which costs a pass over the vocabulary.
        listener: called after every token.

    Yields:
        Completions as they end, in no particular order.

    Raises:
        InputError: if no token has a probability: logits that are not numbers, or nothing left by a rule or processor.
    """
    place = torch.tensor([row.prompt for row in rows], device=generator.device)
    steering = None if guidance is None else Steering(guidance, prompts, place, eos_ids)
    # generators have more logits than their tokenizer has tokens, and a value model knows the tokens alone
    vocabulary = None if guidance is None else guidance.model.backbone.vocab_size
    lines = _Lines(rows, eos_ids, settings, place.device, tokenizer)
    history = left_padded(prompts)[0].to(place.device)[place] if processors else None
    reader = PrefixReader(generator, prompts, place)
    while True:
        assert reader.logits is not None
        logits = reader.logits[:, :vocabulary]
        if processors:
            logits = processors(cast(torch.LongTensor, history), logits.to(torch.float32, copy=True))
        offered, random = candidates(logits, settings), lines.random
        log_probs, remaining = offered.log_probs, None
        if steering is not None:
            log_probs, remaining = steering.steer(reader.hidden, offered, random, lines.ended, lines.step)
        choice = draw(log_probs, random)
        newest = offered.ids.gather(-1, choice[:, None]).squeeze(-1)
        if steering is not None:
            steering.advance(newest, choice)
        lines.add(newest, choice, remaining, reader.logits if with_log_probs else None)
        if listener is not None:
            listener(lines.newest())
        share = lines.end(newest, log_probs)
        if share > _LEAVE_ABOVE:
            yield from lines.written()
            if share == 1.0:
                return
            kept = lines.leave()
            newest, history = newest[kept], None if history is None else history[kept]
            reader.keep(kept)
            if steering is not None:
                steering.keep(kept)
        reader.step(newest)
        history = None if history is None else torch.cat([history, newest[:, None]], dim=-1)


class _Lines:
    """The lines of a batch that are still there: which row each writes, where it ends, what it has written.

    Attributes:
        step: tokens that each line has.
        ended: lines that are finished or have no more room; (B,).
    """

    def __init__(
        self,
        rows: Sequence[Row],
        eos_ids: Sequence[int],
        settings: SamplingSettings,
        device: torch.device,
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> None:
        self.step = 0
        self._rows = torch.arange(len(rows), device=device)
        self._room = torch.tensor([row.room for row in rows], device=device)
        self._eos = torch.tensor(sorted(eos_ids), device=device)
        self._stop: StopStringCriteria | None = None
        if settings.stop:
            assert tokenizer is not None
            self._stop = StopStringCriteria(tokenizer, list(settings.stop))
        self._uniforms: Tensor | None = None
        if settings.temperature > 0:
            keys, rooms = [row.key for row in rows], [row.room for row in rows]
            self._uniforms = random_numbers(keys, rooms, settings.seed).to(device, finest_float(device))
        self._finished = self.ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
        self._length = torch.zeros_like(self._room)
        # one column per step
        self._ids: list[Tensor] = []
        self._remaining: list[Tensor] = []
        self._log_probs: list[Tensor] = []

    @property
    def random(self) -> Tensor | None:
        """The random number of each line for its next token, (B,); None if it takes the most probable one."""
        return None if self._uniforms is None else self._uniforms[:, self.step]

    def add(self, newest: Tensor, choice: Tensor, remaining: Tensor | None, logits: Tensor | None) -> None:
        """Takes the newest tokens, (B,), their columns among the candidates, and what is known of them."""
        self.step += 1
        self._ids.append(newest)
        if remaining is not None:
            self._remaining.append(remaining.gather(-1, choice[:, None]).squeeze(-1))
        if logits is not None:
            own = logits.float()
            self._log_probs.append(own.gather(-1, newest[:, None]).squeeze(-1) - own.logsumexp(-1))

    def newest(self) -> Step:
        """What a listener is told, before `end`."""
        here = (~self.ended).nonzero().flatten()
        remaining = self._remaining[-1][here].tolist() if self._remaining else None
        return Step(self._rows[here].tolist(), self._ids[-1][here].tolist(), remaining)

    def end(self, newest: Tensor, log_probs: Tensor) -> float:
        """Ends the lines whose newest token says so, or that have no more room; returns the share that has ended."""
        empty = ~(log_probs.amax(-1) > -torch.inf) & ~self.ended
        says_so = is_among(newest, self._eos)
        if self._stop is not None:
            recent = torch.stack(self._ids[-self._stop.maximum_token_len :], dim=1)
            says_so = says_so | cast(Tensor, self._stop(cast(torch.LongTensor, recent), cast(torch.FloatTensor, None)))
        writing = ~self.ended
        self._finished = self._finished | (says_so & writing)
        self.ended = self.ended | says_so | (self.step >= self._room)
        self._length = torch.where(writing, self.step, self._length)
        share, lost = torch.stack([self.ended, empty]).float().mean(-1).tolist()
        if lost:
            raise InputError(
                f"after {self.step - 1} tokens of a completion, no candidate has a probability: the generator's logits "
                "are not numbers (try another `dtype`), or a rule or processor has ruled out every token."
            )
        return float(share)

    def leave(self) -> Tensor:
        """Drops the lines that have ended; returns the others' numbers."""
        kept = (~self.ended).nonzero().flatten()
        self._rows, self._room = self._rows[kept], self._room[kept]
        self._finished, self.ended, self._length = self._finished[kept], self.ended[kept], self._length[kept]
        self._uniforms = None if self._uniforms is None else self._uniforms[kept]
        for columns in (self._ids, self._remaining, self._log_probs):
            columns[:] = [column[kept] for column in columns]
        return kept

    def written(self) -> Iterator[Written]:
        """The completions that have ended, without what their lines went on to write until they could leave."""
        lines = self.ended.nonzero().flatten()

        def table(columns: list[Tensor]) -> list[list[float]]:
            return torch.stack([c[lines] for c in columns], dim=1).tolist() if columns else [[]] * len(lines)

        ids: list[list[int]] = torch.stack([c[lines] for c in self._ids], dim=1).tolist()
        facts = (self._rows[lines].tolist(), self._finished[lines].tolist(), self._length[lines].tolist())
        tables = (ids, table(self._remaining), table(self._log_probs))
        for row, natural, length, tokens, remaining, log_probs in zip(*facts, *tables, strict=True):
            yield Written(row, tokens[:length], natural, remaining[:length], log_probs[:length])

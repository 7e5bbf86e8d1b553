"""The decoding loop: one batch of rows from prompts to completions, with or without guidance.

Rows do not influence each other: random numbers, rules and limits are each row's own, so a row gets in any batch what
it gets alone (up to rounding in the models).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel

from lenvm.decoding.candidates import Candidates, candidates, draw
from lenvm.decoding.prefix import PrefixReader
from lenvm.decoding.rules import AbstractRule
from lenvm.decoding.scorers import AbstractScorer, AbstractScoring
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.models import LengthValueModel

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
        finished: whether it ended by itself.
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


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """What steers a batch.

    Args:
        model: the length value model.
        scorer: how it scores candidates.
        rule: how scores change the distribution; its per-row parameters are for the rows of the batch. None predicts
            without steering.
    """

    model: LengthValueModel
    scorer: AbstractScorer
    rule: AbstractRule | None

    def for_rows(self, index: Tensor) -> Guidance:
        """The guidance of these rows."""
        return replace(self, rule=None if self.rule is None else self.rule.for_rows(index))


@dataclass
class _Record:
    """Columns of what has been written, one entry per step."""

    ids: list[Tensor]
    remaining: list[Tensor]
    log_probs: list[Tensor]

    def keep(self, rows: Tensor) -> None:
        for columns in (self.ids, self.remaining, self.log_probs):
            columns[:] = [column[rows] for column in columns]


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
    with_log_probs: bool = False,
    listener: Callable[[Step], None] | None = None,
) -> Iterator[Written]:
    """Writes one batch of completions.

    Args:
        generator: the language model.
        prompts: token ids of each prompt; encoded once, however many rows share it.
        rows: the completions to write.
        eos_ids: tokens that end a completion.
        settings: filters and seed; its `max_tokens` is not looked at, since every row has its own room.
        guidance: value model, scorer and rule; None samples plainly.
        processors: transformers' logits processors, applied before the filters; they see prompts padded on the left.
        with_log_probs: also return the generator's own log-probabilities, which costs a pass over the vocabulary.
        listener: called after every token.

    Yields:
        Completions as they end, in no particular order.

    Raises:
        InputError: if no token has a probability: logits that are not numbers, or nothing left by a rule or processor.
    """
    device = generator.device
    place = torch.tensor([row.prompt for row in rows], device=device)
    room = torch.tensor([row.room for row in rows], device=device)
    eos = torch.tensor(sorted(eos_ids), device=device)
    uniforms = None if settings.temperature == 0 else _uniforms(rows, settings.seed).to(device)
    scoring, vocabulary = None, None
    if guidance is not None:
        # per-row parameters move to the device once, not at every step
        guidance = guidance.for_rows(torch.arange(len(rows), device=device))
        scoring = guidance.scorer.start(guidance.model, prompts, place)
        # generators have more logits than their tokenizer has tokens, and the value model knows the tokens alone
        vocabulary = guidance.model.backbone.vocab_size
    history = _left_padded(prompts, place) if processors else None
    alive = torch.arange(len(rows), device=device)  # the row that each line of the batch writes
    finished = torch.zeros(len(rows), dtype=torch.bool, device=device)
    ended = finished
    record = _Record([], [], [])
    reader = PrefixReader(generator, prompts, place)
    step = 0
    while True:
        assert reader.logits is not None
        logits = reader.logits[:, :vocabulary]
        if processors:
            logits = processors(history, logits.to(torch.float32, copy=True))
        offered = candidates(logits, settings)
        random = None if uniforms is None else uniforms[:, step]
        log_probs = offered.log_probs
        if scoring is not None and guidance is not None:
            scoring.observe(reader.hidden)
            log_probs, remaining = _guided(guidance, scoring, offered, random, step, ended, eos)
        choice = draw(log_probs, random)
        newest = offered.ids.gather(-1, choice[:, None]).squeeze(-1)
        record.ids.append(newest)
        if scoring is not None:
            record.remaining.append(remaining.gather(-1, choice[:, None]).squeeze(-1))
            scoring.advance(newest, choice)
        if with_log_probs:
            own = reader.logits.float()
            record.log_probs.append(own.gather(-1, newest[:, None]).squeeze(-1) - own.logsumexp(-1))
        step += 1
        if listener is not None:
            listener(_step(alive, record, ~ended))
        finished = finished | (torch.isin(newest, eos) & (step <= room))
        ended = finished | (step >= room)
        empty = ~(log_probs.amax(-1) > -torch.inf) & ~ended
        share, lost = torch.stack([ended, empty]).float().mean(-1).tolist()
        if lost:
            raise InputError(
                f"after {step - 1} tokens of a completion, no candidate has a probability: the generator's logits are not "
                "numbers (try another `dtype`), or a rule or processor has ruled out every token."
            )
        if share > _LEAVE_ABOVE:
            yield from _written(record, ended.nonzero().flatten(), alive, finished, room, set(eos_ids))
            if share == 1.0:
                return
            kept = (~ended).nonzero().flatten()
            alive, finished, ended = alive[kept], finished[kept], ended[kept]
            room, newest = room[kept], newest[kept]
            uniforms = None if uniforms is None else uniforms[kept]
            record.keep(kept)
            reader.keep(kept)
            history = None if history is None else history[kept]
            if scoring is not None and guidance is not None:
                scoring.keep(kept)
                guidance = guidance.for_rows(kept)
        reader.step(newest)
        if history is not None:
            history = torch.cat([history, newest[:, None]], dim=-1)


def _guided(
    guidance: Guidance,
    scoring: AbstractScoring,
    offered: Candidates,
    random: Tensor | None,
    step: int,
    ended: Tensor,
    eos: Tensor,
) -> tuple[Tensor, Tensor]:
    """New log-probabilities of the candidates, and the predicted remaining length after each; (B, K) both."""
    rule, gamma = guidance.rule, guidance.model.gamma
    generated = torch.full_like(ended, step, dtype=torch.long)
    count = 0
    scored = offered.mask
    if rule is not None:
        wanted = rule.wants(offered.log_probs, offered.mask, generated) & ~ended
        scored = scored & wanted[:, None]
        count = int(wanted.sum())
    if count < len(ended):
        # a row that is left alone is drawn now; its token is the only one to read
        alone = torch.zeros_like(scored).scatter_(1, draw(offered.log_probs, random)[:, None], ~ended[:, None])
        scored = torch.where(wanted[:, None], scored, alone) if count else alone
    remaining = scoring.remaining(offered.ids, scored & ~torch.isin(offered.ids, eos))
    if rule is None or not count:
        return offered.log_probs, remaining
    horizons = -torch.expm1(remaining * math.log(gamma))
    steered = rule(offered.log_probs, horizons, offered.mask, generated, gamma)
    return torch.where(wanted[:, None], steered, offered.log_probs), remaining


def _uniforms(rows: Sequence[Row], seed: int) -> Tensor:
    """Random numbers in [0, 1) of each row, one per token: (rows, longest room)."""
    longest = max(row.room for row in rows)
    table = torch.zeros(len(rows), longest, dtype=torch.float64)
    for i, row in enumerate(rows):
        digest = hashlib.sha256(f"{seed}/{row.key}".encode()).digest()
        source = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        table[i, : row.room] = torch.rand(row.room, generator=source, dtype=torch.float64)
    return table


def _written(
    record: _Record, lines: Tensor, alive: Tensor, finished: Tensor, room: Tensor, eos: set[int]
) -> Iterator[Written]:
    """The completions of the given lines, cut after their first end-of-text token or where their room ends."""

    def table(columns: list[Tensor]) -> list[list[float]]:
        return torch.stack([c[lines] for c in columns], dim=1).tolist() if columns else [[]] * len(lines)

    ids: list[list[int]] = torch.stack([c[lines] for c in record.ids], dim=1).tolist()
    facts = zip(
        alive[lines].tolist(),
        ids,
        finished[lines].tolist(),
        room[lines].tolist(),
        table(record.remaining),
        table(record.log_probs),
        strict=True,
    )
    for row, tokens, natural, limit, remaining, log_probs in facts:
        length = next((i + 1 for i, token in enumerate(tokens[:limit]) if token in eos), min(len(tokens), limit))
        yield Written(row, tokens[:length], natural, remaining[:length], log_probs[:length])


def _step(alive: Tensor, record: _Record, shown: Tensor) -> Step:
    lines = shown.nonzero().flatten()
    remaining = record.remaining[-1][lines].tolist() if record.remaining else None
    return Step(alive[lines].tolist(), record.ids[-1][lines].tolist(), remaining)


def _left_padded(prompts: Sequence[Sequence[int]], place: Tensor) -> Tensor:
    width = max(map(len, prompts))
    table = torch.zeros(len(prompts), width, dtype=torch.long)
    for i, ids in enumerate(prompts):
        table[i, width - len(ids) :] = torch.as_tensor(ids)
    return table.to(place.device)[place]

"""Guidance: what steers a batch, and the steering itself, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lenvm.decoding.candidates import Candidates, draw, is_among
from lenvm.decoding.rules import AbstractRule
from lenvm.decoding.scorers import AbstractScorer
from lenvm.models import LengthValueModel


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


class Steering:
    """Guidance at work on a batch."""

    def __init__(
        self, guidance: Guidance, prompts: Sequence[Sequence[int]], place: Tensor, eos_ids: Sequence[int]
    ) -> None:
        self._eos = torch.tensor(sorted(eos_ids), device=place.device)
        # per-row parameters move to the device once, not at every step
        self._rule = guidance.for_rows(torch.arange(len(place), device=place.device)).rule
        self._gamma = guidance.model.gamma
        self._scoring = guidance.scorer.start(guidance.model, prompts, place)

    def steer(
        self, hidden: Tensor, offered: Candidates, random: Tensor | None, ended: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """New log-probabilities of the candidates, and the predicted remaining length after each; (B, K) both."""
        rule = self._rule
        generated = torch.full_like(ended, step, dtype=torch.long)
        wanted = torch.zeros_like(ended)
        if rule is not None:
            wanted = rule.wants(offered.log_probs, offered.mask, generated) & ~ended
        scored, steers = offered.mask & wanted[:, None], True
        if not (wanted | ended).all():
            # a row that is left alone is drawn now; its token is the only one to read
            alone = torch.zeros_like(scored).scatter_(1, draw(offered.log_probs, random)[:, None], ~ended[:, None])
            scored, steers = torch.where(wanted[:, None], scored, alone), bool(wanted.any())
        self._scoring.observe(hidden)
        remaining = self._scoring.remaining(offered.ids, scored & ~is_among(offered.ids, self._eos))
        if rule is None or not steers:
            return offered.log_probs, remaining
        horizons = -torch.expm1(remaining * math.log(self._gamma))
        steered = rule(offered.log_probs, horizons, offered.mask, generated, self._gamma)
        return torch.where(wanted[:, None], steered, offered.log_probs), remaining

    def advance(self, newest: Tensor, choice: Tensor) -> None:
        self._scoring.advance(newest, choice)

    def keep(self, rows: Tensor) -> None:
        self._scoring.keep(rows)
        self._rule = None if self._rule is None else self._rule.for_rows(rows)

"""The cheap scorer: all candidates are read off the state before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lenvm.decoding.precision import finest_float
from lenvm.decoding.prefix import PrefixReader
from lenvm.decoding.scorers.base import SHORTEST, AbstractScorer, AbstractScoring
from lenvm.errors import InputError
from lenvm.heads import AbstractActionHead
from lenvm.models import LengthValueModel


@dataclass(frozen=True, kw_only=True)
class ActionValueScorer(AbstractScorer):
    """Takes the remaining length after every candidate from an action-value head at the current state.

    Cost per step: one pass of the value model over one token per row; with a shared backbone not even that, since the
    head reads the generator's own hidden state.
    """

    def check(self, model: LengthValueModel) -> None:
        if not isinstance(model.head, AbstractActionHead):
            found = type(model.head).__name__
            raise InputError(
                f"ActionValueScorer needs a value model with an ActionValueHead, this one has a {found}; train one "
                "(`--model.head lenvm.heads.ActionValueHead`), or use TreeScorer."
            )

    def start(self, model: LengthValueModel, prompts: Sequence[Sequence[int]], place: Tensor) -> AbstractScoring:
        reader = None if model.is_shared else PrefixReader(model.backbone.transformer, prompts, place)
        return _ActionValueScoring(model, reader)


class _ActionValueScoring(AbstractScoring):
    def __init__(self, model: LengthValueModel, reader: PrefixReader | None) -> None:
        assert isinstance(model.head, AbstractActionHead)
        self._model, self._head, self._reader = model, model.head, reader
        self._hidden: Tensor | None = None
        self._unread: Tensor | None = None

    def observe(self, hidden: Tensor) -> None:
        if self._reader is None:
            self._hidden = hidden
            return
        if self._unread is not None:
            self._reader.step(self._unread)
        self._hidden = self._reader.hidden

    def remaining(self, ids: Tensor, scored: Tensor) -> Tensor:
        assert self._hidden is not None
        raw = self._model.read(self._hidden)
        remaining = self._head.next_remaining(raw, ids, self._model.target).to(finest_float(ids.device))
        return remaining.clamp_min(SHORTEST).masked_fill_(~scored, 0.0)

    def advance(self, ids: Tensor, choice: Tensor) -> None:
        self._unread = ids  # read at the next step: rows that have ended may leave before

    def keep(self, rows: Tensor) -> None:
        if self._reader is not None:
            self._reader.keep(rows)
        self._unread = None if self._unread is None else self._unread[rows]

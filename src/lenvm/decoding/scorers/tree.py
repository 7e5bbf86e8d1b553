"""The exact scorer: every candidate is read as the next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lenvm.decoding.precision import finest_float
from lenvm.decoding.prefix import PrefixReader
from lenvm.decoding.scorers.base import SHORTEST, AbstractScorer, AbstractScoring
from lenvm.models import LengthValueModel


@dataclass(frozen=True, kw_only=True)
class TreeScorer(AbstractScorer):
    """Reads all candidates of all rows in one forward pass, each seeing its row's prefix and itself.

    What it gives is what encoding prefix and candidate from scratch gives. The keys and values of the chosen candidate
    are kept, so no token is read twice; candidates that the filters have dropped are not computed. Cost per step: one
    pass of the value model over all candidates.
    """

    def check(self, model: LengthValueModel) -> None:
        pass

    def start(self, model: LengthValueModel, prompts: Sequence[Sequence[int]], place: Tensor) -> AbstractScoring:
        return _TreeScoring(model, prompts, place)


class _TreeScoring(AbstractScoring):
    def __init__(self, model: LengthValueModel, prompts: Sequence[Sequence[int]], place: Tensor) -> None:
        self._model = model
        self._reader = PrefixReader(model.backbone.transformer, prompts, place)
        self._slots = place[:, None]

    def remaining(self, ids: Tensor, scored: Tensor) -> Tensor:
        rows, columns = scored.nonzero(as_tuple=True)
        self._slots = (scored.cumsum(-1) - 1).clamp_min(0)
        hidden = self._reader.fan_out(ids[rows, columns], rows, self._slots[rows, columns])
        raw = self._model.read(hidden)
        result = torch.zeros(ids.shape, dtype=finest_float(ids.device), device=ids.device)
        remaining = self._model.head.remaining(raw, self._model.target).to(result.dtype)
        result[rows, columns] = remaining.clamp_min_(SHORTEST)
        return result

    def advance(self, ids: Tensor, choice: Tensor) -> None:
        self._reader.choose(self._slots.gather(-1, choice[:, None]).squeeze(-1))

    def keep(self, rows: Tensor) -> None:
        self._reader.keep(rows)
        self._slots = self._slots[rows]

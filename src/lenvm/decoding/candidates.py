"""The generator's candidates for the next token."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lenvm.decoding.precision import finest_float
from lenvm.decoding.settings import SamplingSettings


class Candidates(NamedTuple):
    """Tokens that may come next; all (B, K).

    Attributes:
        ids: token ids.
        log_probs: log-probabilities among the candidates, rows normalised; -inf where there is none.
        mask: where there is a candidate.
    """

    ids: Tensor
    log_probs: Tensor
    mask: Tensor


def candidates(logits: Tensor, settings: SamplingSettings) -> Candidates:
    """Filters in transformers' order: temperature, top-k, top-p, min-p; then normalises what is left.

    Args:
        logits: (B, vocabulary).
        settings: the filters. At temperature 0, candidates are those of temperature 1.

    Returns:
        Candidates, the most probable first; without any filter the whole vocabulary in its own order.
    """
    scores = logits.float()
    if settings.temperature not in (0.0, 1.0):
        scores = scores / settings.temperature
    filtered = settings.top_p < 1.0 or settings.min_p > 0.0
    if settings.top_k:
        scores, ids = scores.topk(min(settings.top_k, scores.shape[-1]), dim=-1)
    elif filtered:
        scores, ids = scores.sort(dim=-1, descending=True)
    else:
        ids = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
    log_probs = torch.log_softmax(scores, dim=-1)
    # what a generator rules out itself is no candidate
    mask = log_probs > -torch.inf
    if filtered:
        probs = log_probs.exp()
        if settings.top_p < 1.0:
            mask = mask & (probs.cumsum(-1) - probs < settings.top_p)
        if settings.min_p:
            mask = mask & (probs >= settings.min_p * probs[:, :1])
        mask[:, 0] = True
        width = int(mask.sum(-1).max())
        ids, log_probs, mask = ids[:, :width], log_probs[:, :width], mask[:, :width]
        log_probs = torch.log_softmax(log_probs.masked_fill(~mask, -torch.inf), dim=-1)
    return Candidates(ids, log_probs, mask)


def draw(log_probs: Tensor, uniforms: Tensor | None) -> Tensor:
    """One column per row: by inverting the cumulative distribution, or the most probable one.

    Args:
        log_probs: (B, K).
        uniforms: a random number in [0, 1) per row; (B,). None takes the most probable candidate.
    """
    if uniforms is None:
        return log_probs.argmax(-1)
    kind = finest_float(log_probs.device)
    cumulative = log_probs.exp().to(kind).cumsum(-1)
    total = cumulative[:, -1:]
    # a step short of the total, so that a column of probability 0 at the end is never reached
    place = torch.minimum(uniforms[:, None] * total, total * (1 - 4 * torch.finfo(kind).eps))
    column = torch.searchsorted(cumulative, place, right=True).squeeze(-1)
    # a row without any probability has no column; whoever draws from it hears of it (`decode`)
    return column.clamp_max(log_probs.shape[-1] - 1)


def random_numbers(keys: Sequence[str], counts: Sequence[int], seed: int) -> Tensor:
    """Random numbers in [0, 1) that each row's own key and the seed decide; (rows, largest count), 0 beyond a count."""
    table = torch.zeros(len(keys), max(counts), dtype=torch.float64)
    for row, key, count in zip(table, keys, counts, strict=True):
        digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
        source = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        row[:count] = torch.rand(count, generator=source, dtype=torch.float64)
    return table


def is_among(ids: Tensor, few: Tensor) -> Tensor:
    """Which token ids are one of a few: (...), (E,) to (...). For one id, as nearly always, a comparison is faster."""
    return ids == few if len(few) == 1 else torch.isin(ids, few)

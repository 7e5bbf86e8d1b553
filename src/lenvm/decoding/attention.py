"""Attention of new tokens to cached prefixes, registered with transformers under a name of our own.

Two things that transformers' own implementations do not do:
- Queries that share a key-value head are folded into the query length, so grouped-query models read the cache as it is;
  repeating it for every query head costs ten times the attention itself on a CPU.
- Candidates of several rows come flat, without padding; only here are they arranged by row (`FanOut`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from lenvm.errors import InputError

NAME = "lenvm_prefix"
_UNKNOWN = ("position_bias", "alibi")


class Layout:
    """Who sees whom in one forward pass.

    Args:
        visible: which cached columns each query sees, itself included; (B, 1, Q, T).
        newest: column of the query in the cache, the same for all rows; (Q,).
        rows: for queries that come flat: the row of each; (M,). None: queries come as (B, Q).
        slots: for queries that come flat: the place of each among the queries of its row; (M,).
    """

    def __init__(
        self, visible: Tensor, newest: Tensor, rows: Tensor | None = None, slots: Tensor | None = None
    ) -> None:
        self.visible, self.newest, self.rows, self.slots = visible, newest, rows, slots
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def mask(self, groups: int, window: int | None) -> Tensor:
        """Visibility for folded queries: (B, 1, groups * Q, T), or (B, 1, 1, T) where it is the same for all."""
        if (groups, window) not in self._masks:
            mask = self.visible
            if window is not None:
                columns = torch.arange(mask.shape[-1], device=mask.device)
                # candidates stand side by side behind the prefix, all at its next position
                reach = columns > (self.newest - window)[:, None]
                mask = mask & reach
            if mask.shape[2] > 1:
                mask = mask.repeat(1, 1, groups, 1)
            self._masks[groups, window] = mask
        return self._masks[groups, window]


def prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention in the form that transformers calls it.

    Args:
        module: the attention layer.
        query: (B, H, Q, d), or (1, H, M, d) where the layout says that queries come flat.
        key: the cache, new tokens included: (B, H_kv, T, d).
        value: the same for values.
        attention_mask: not looked at; `layout` says more.
        layout: who sees whom.
        scaling: of the dot products; default 1 / sqrt(d).
        sliding_window: how far back this layer looks, in tokens.
        softcap: bound of the scores (Gemma).
        s_aux: a logit per head for attending to nothing (gpt-oss).
        **others: what other architectures pass; only those without effect on inference are accepted.

    Returns:
        (B, Q, H, d) or (1, M, H, d), and no attention weights.
    """
    if given := [name for name in _UNKNOWN if others.get(name) is not None]:
        raise InputError(f"decoding does not support {type(module).__name__}, whose attention needs {given}.")
    flat = layout.rows is not None
    if flat:
        arranged = query.new_zeros((key.shape[0], query.shape[1], layout.visible.shape[2], query.shape[3]))
        arranged[layout.rows, :, layout.slots] = query[0].transpose(0, 1)
    else:
        arranged = query
    batch, heads, length, size = arranged.shape
    groups = heads // key.shape[1]
    folded = arranged.reshape(batch, key.shape[1], groups * length, size)
    mask = layout.mask(groups, sliding_window)
    if softcap is None and s_aux is None:
        output = F.scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
    else:
        output = _explicit(folded, key, value, mask, scaling or size**-0.5, softcap, s_aux)
    output = output.reshape(batch, heads, length, -1)
    if flat:
        return output[layout.rows, :, layout.slots][None], None
    return output.transpose(1, 2), None


def _explicit(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """The same written out, for architectures that bend the scores."""
    scores = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if sinks is not None:
        batch, kv_heads, length, _ = scores.shape
        per_query = sinks.reshape(kv_heads, -1).repeat_interleave(length // (sinks.numel() // kv_heads), dim=1)
        scores = torch.cat([scores, per_query[None, :, :, None].expand(batch, -1, -1, 1).to(scores.dtype)], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return torch.matmul(weights[..., : key.shape[2]], value)


AttentionInterface.register(NAME, prefix_attention)

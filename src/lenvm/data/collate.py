"""Rows of the store to one padded batch, with the label of every supervised state."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lenvm.states import SupervisedStates

Clip = Literal["left", "right"]
_PAD_MULTIPLE = 8


class RolloutBatch(NamedTuple):
    """Completions with their prompts, padded on the right, and the labels of their states, flattened.

    Attributes:
        input_ids: (B, T), padded with 0: what stands to the right of a state cannot reach it.
        flat_index: where the supervised states are in the flattened (B * T) positions; (N,).
        states: their labels.
        position: t, the number of completion tokens before each state; (N,).
        length: L, the completion length of each row, EOS included; (B,).
        row: index of each row in its split's data; (B,).
        prompt: number of each row's prompt; rows with one number share a prompt; (B,).
        domain: number of each row's domain; (B,).
    """

    input_ids: Tensor
    flat_index: Tensor
    states: SupervisedStates
    position: Tensor
    length: Tensor
    row: Tensor
    prompt: Tensor
    domain: Tensor


def supervised_range(prompt_length: int, length: int, start: int, stop: int, include_terminal: bool) -> range:
    """The states t whose hidden state lies in the window [start, stop) of prompt + completion.

    State t sits at index `prompt_length - 1 + t` (DESIGN section 2); t runs from 0 to L - 1, or to L with the terminal.
    """
    last = length if include_terminal else length - 1
    return range(max(0, start - prompt_length + 1), min(last, stop - prompt_length) + 1)


def collate(
    table: pa.Table,
    *,
    row: np.ndarray,
    prompt: np.ndarray,
    domain: np.ndarray,
    max_length: int | None,
    clip: Clip = "left",
    include_terminal: bool = False,
) -> RolloutBatch:
    """Builds a batch.

    A sequence longer than `max_length` loses its beginning (`clip="left"`) or its end (`"right"`); the labels of the
    states that are left stay what they were, since the full length is known.

    Args:
        table: rows with prompt_ids, completion_ids and finished.
        row: index of each row; (B,).
        prompt: number of each row's prompt; (B,).
        domain: number of each row's domain; (B,).
        max_length: context of the model in tokens; None for no limit.
        clip: which side of a long sequence is dropped.
        include_terminal: whether the state after EOS is supervised too, with nothing remaining.
    """
    prompts, completions = table["prompt_ids"].to_pylist(), table["completion_ids"].to_pylist()
    finished = table["finished"].to_pylist()
    windows, states = [], []
    for b, (prompt_ids, completion_ids) in enumerate(zip(prompts, completions, strict=True)):
        ids = np.asarray(prompt_ids + completion_ids)
        m, length = len(prompt_ids), len(completion_ids)
        excess = 0 if max_length is None else max(len(ids) - max_length, 0)
        start, stop = (excess, len(ids)) if clip == "left" else (0, len(ids) - excess)
        windows.append(ids[start:stop])
        t = np.asarray(supervised_range(m, length, start, stop, include_terminal), dtype=np.int64)
        following = np.append(completion_ids, -1)
        states.append(
            (t + (m - 1 - start), np.full(len(t), b), length - t, t, following[t], np.full(len(t), not finished[b]))
        )
    width = -(-max(map(len, windows)) // _PAD_MULTIPLE) * _PAD_MULTIPLE
    if max_length is not None:
        width = min(width, max_length)
    input_ids = np.zeros((len(windows), width), dtype=np.int64)
    for b, window in enumerate(windows):
        input_ids[b, : len(window)] = window
    column, trajectory, remaining, position, next_ids, censored = map(
        torch.from_numpy, map(np.concatenate, zip(*states, strict=True))
    )
    return RolloutBatch(
        input_ids=torch.from_numpy(input_ids),
        flat_index=trajectory * width + column,
        states=SupervisedStates(remaining, trajectory, next_ids, censored),
        position=position,
        length=torch.tensor([len(c) for c in completions]),
        row=torch.from_numpy(row),
        prompt=torch.from_numpy(prompt),
        domain=torch.from_numpy(domain),
    )

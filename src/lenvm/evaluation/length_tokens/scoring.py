"""The horizon shift of every token of a few completions, in one forward pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lenvm.models import LengthValueModel
from lenvm.returns import horizon_shifts


class ReadCompletion(NamedTuple):
    """A completion as the value model reads it.

    Attributes:
        prompt_ids: at least one token.
        completion_ids: L tokens.
        finished: whether the last of them ended it, so that nothing follows.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    finished: bool


@torch.inference_mode()
def token_shifts(
    model: LengthValueModel, completions: Sequence[ReadCompletion], eos_ids: Collection[int]
) -> list[NDArray[np.float64]]:
    """The shift of every completion token; positive means that the answer became longer (`lenvm.returns`).

    After the last token of a finished completion, and after an end-of-text token, the horizon is 0 and the model is not
    asked. The last token of a censored completion has a shift like any other: the state after it exists.

    Args:
        model: in evaluation mode.
        completions: of which all states are read in one pass.
        eos_ids: end-of-text tokens.

    Returns:
        Per completion, (L,); NaN where a state lies beyond the model's context.
    """
    device = next(model.parameters()).device
    windows = [torch.tensor([*c.prompt_ids, *c.completion_ids][: model.backbone.context_length]) for c in completions]
    input_ids = nn.utils.rnn.pad_sequence(windows, batch_first=True).to(device)
    # the state after t tokens sits at index m - 1 + t (DESIGN section 2)
    places = [
        row * input_ids.shape[1] + torch.arange(len(c.prompt_ids) - 1, len(window))
        for row, (c, window) in enumerate(zip(completions, windows, strict=True))
    ]
    hidden = model.backbone(input_ids).flatten(0, 1)[torch.cat(places).to(device)]
    read = model.head.horizon(model.read(hidden), model.target, model.gamma).double().cpu().numpy()
    ends = np.fromiter(eos_ids, dtype=np.int64)
    ends_of, shifts = np.cumsum([len(place) for place in places]), []
    for completion, seen in zip(completions, np.split(read, ends_of[:-1]), strict=True):
        horizons = torch.full((len(completion.completion_ids) + 1,), torch.nan, dtype=torch.float64)
        horizons[: len(seen)] = torch.from_numpy(seen)
        horizons[1:][torch.from_numpy(np.isin(completion.completion_ids, ends))] = 0.0
        if completion.finished:
            horizons[-1] = 0.0
        shifts.append(horizon_shifts(horizons, model.gamma).numpy())
    return shifts

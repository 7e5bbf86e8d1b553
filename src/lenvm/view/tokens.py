"""What the value model says of a completion, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from lenvm.errors import InputError
from lenvm.models import LengthValueModel
from lenvm.returns import horizon_shifts
from lenvm.view.pieces import Piece, pieces

_DIGITS = 9
"""Digits that bring a float32 back bit for bit."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One completion with its numbers; lists over states have one entry for each t = 0..L, those over tokens L.

    Attributes:
        ids: token ids, EOS included; (L,).
        pieces: the text; their `tokens` add up to L.
        finished: whether it ended by itself; if not, it was cut and nobody knows how long it would have become.
        predicted: predicted number of tokens after each state, 0 at the end of a finished completion; shorter than
            L + 1 if the completion is longer than the value model's context.
        horizon: the same as `1 - gamma**remaining`, as the model says it; in [0, 1).
        remaining: true number of tokens after each state; None if the completion was cut.
        shift: `gamma * horizon[t + 1] + (1 - gamma) - horizon[t]` of each token t that has both; above 0, the token has
            made the answer longer. This is minus the TD residual of the values, `r + gamma * V[t + 1] - V[t]`.
    """

    ids: list[int]
    pieces: list[Piece]
    finished: bool
    predicted: list[float]
    horizon: list[float]
    remaining: list[int] | None
    shift: list[float]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON."""
        return asdict(self) | {"pieces": [[p.text, p.tokens, int(p.special)] for p in self.pieces]}


@torch.inference_mode()
def read(
    prompt_ids: Sequence[int],
    completion_ids: Sequence[int],
    finished: bool,
    model: LengthValueModel,
    tokenizer: PreTrainedTokenizerBase,
) -> Reading:
    """Reads one completion.

    Args:
        prompt_ids: token ids of the prompt.
        completion_ids: token ids of the completion; if it finished, with its EOS.
        finished: whether it ended by itself.
        model: the length value model.
        tokenizer: the generator's.

    Raises:
        InputError: if the model does not know the tokens, or the prompt fills its context.
    """
    ids = [*prompt_ids, *completion_ids]
    if not ids or min(ids) < 0 or max(ids) >= model.backbone.vocab_size:
        raise InputError(
            f"the value model knows the token ids 0 to {model.backbone.vocab_size - 1}, but a completion has "
            f"{max(ids, default=-1)}; use a value model of the generator that wrote it."
        )
    context = model.backbone.context_length
    if context is not None and len(prompt_ids) > context:
        raise InputError(
            f"a prompt has {len(prompt_ids)} tokens, more than the model's context of {context}; choose another one "
            "with `prompt_id`."
        )
    device = next(model.parameters()).device
    raw = model(torch.tensor([ids[:context]], device=device))[:, len(prompt_ids) - 1 :]
    predicted = _floats(model.head.remaining(raw, model.target)[0])
    horizon = _floats(model.head.horizon(raw, model.target, model.gamma)[0])
    length = len(completion_ids)
    if finished and len(predicted) == length + 1:
        # the value model is not asked about the end: there, nothing remains
        predicted[-1] = horizon[-1] = 0.0
    return Reading(
        ids=list(completion_ids),
        pieces=pieces(completion_ids, tokenizer, prompt_ids),
        finished=finished,
        predicted=predicted,
        horizon=horizon,
        remaining=list(range(length, -1, -1)) if finished else None,
        shift=shifts(horizon, model.gamma),
    )


def shifts(horizon: Sequence[float], gamma: float) -> list[float]:
    """The horizon shift of each token between two states, short in JSON; see `lenvm.returns.horizon_shifts`.

    Args:
        horizon: of the states in order; (T,).
        gamma: discount factor.

    Returns:
        One number per token, positive if it made the answer longer; (T - 1,).
    """
    found = horizon_shifts(torch.tensor(horizon, dtype=torch.float64), gamma)
    return [round(shift, _DIGITS) for shift in found.tolist()]


def _floats(values: torch.Tensor) -> list[float]:
    """Python numbers that are short in JSON and still exact in float32."""
    return [float(f"{value:.{_DIGITS}g}") for value in values.float().tolist()]

"""The labelled states of a batch: what data makes and heads learn from."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class SupervisedStates(NamedTuple):
    """The labelled states of a batch, flattened; the states of one completion stand side by side, in order.

    Attributes:
        remaining: tokens still to come, EOS included; (N,), integer. A lower bound where `censored`.
        trajectory: row of the batch that the state belongs to; (N,), integer.
        next_ids: id of the token that really followed; (N,), integer. -1 at a terminal state.
        censored: whether the completion was cut by the sampler's limit; (N,), bool.
    """

    remaining: Tensor
    trajectory: Tensor
    next_ids: Tensor
    censored: Tensor

"""The length after every possible next token, from the hidden state before it."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lenvm.errors import InputError
from lenvm.heads.base import AbstractActionHead
from lenvm.losses.base import AbstractLoss
from lenvm.states import SupervisedStates
from lenvm.targets.base import AbstractLengthTarget, at_least_float32


class ActionValueHead(AbstractActionHead):
    """A logit for the state, and one for the state after each next token x: `z(x) = z + MLP(h) . e_x + b_x`.

    `z` is the state's own logit, an MLP like `MLPHead`; `e_x` and `b_x` are learned for every token. The logit after
    the token that really followed is compared with `remaining - 1`, or with what the state logit says there
    (`teacher`), by the same loss as the state logit. A token that ends the completion teaches nothing: its 0 is known.

    The loss of a state is that of its logit plus `action_weight` times that of its action.

    Args:
        hidden_size: width of the hidden states.
        vocab_size: number of token ids; left out, the backbone's.
        rank: size of `e_x`.
        width: width of both inner layers; left out, `hidden_size`.
        teacher: share of the state logit's own prediction one token later in what an action is compared with, in
            [0, 1]. At 1 it is the prediction alone, which has no noise and is what exact scoring would say; at 0 it is
            the observed length. Take 0 with a frozen or shared backbone: its hidden states were not trained to tell
            lengths, and tell less after the next token than before it together with that token. No gradient flows
            through the prediction; where that state is not in the batch, the label stands in.
        action_weight: weight of the action's loss.
        state: `together` lets the state's loss train the backbone too; `alone` leaves the backbone to the action's
            loss, and the state logit is read off its hidden states.
    """

    def __init__(
        self,
        hidden_size: int,
        vocab_size: int | None = None,
        rank: int = 64,
        width: int | None = None,
        teacher: float = 1.0,
        action_weight: float = 1.0,
        state: Literal["together", "alone"] = "together",
    ) -> None:
        super().__init__()
        if rank < 1:
            raise InputError(f"`rank` must be at least 1, got {rank}.")
        if not 0.0 <= teacher <= 1.0:
            raise InputError(f"`teacher` must lie in [0, 1], got {teacher!r}; 0 learns from observed lengths alone.")
        if not action_weight >= 0.0:
            raise InputError(f"`action_weight` must not be negative, got {action_weight!r}.")
        if state not in ("together", "alone"):
            raise InputError(f"`state` must be `together` or `alone`, got {state!r}.")
        self.vocab_size: int | None = None
        self.rank, self.width, self.teacher, self.action_weight, self.state = rank, width, teacher, action_weight, state
        inner = width or hidden_size
        self.state_layers = nn.Sequential(nn.Linear(hidden_size, inner), nn.SiLU(), nn.Linear(inner, 1))
        self.query_layers = nn.Sequential(nn.Linear(hidden_size, inner), nn.SiLU(), nn.Linear(inner, rank))
        if vocab_size is not None:
            self.set_vocab_size(vocab_size)

    def set_vocab_size(self, vocab_size: int) -> None:
        """Makes `e_x` and `b_x`, unless the constructor was given a size."""
        if self.vocab_size is not None:
            return
        self.vocab_size = vocab_size
        like = next(self.parameters())
        # small, so that every candidate starts from the state's own logit
        self.embedding = nn.Parameter(0.02 * torch.randn(vocab_size, self.rank).to(like))
        self.bias = nn.Parameter(torch.zeros(vocab_size).to(like))

    @property
    def options(self) -> dict[str, Any]:
        names = ("vocab_size", "rank", "width", "teacher", "action_weight", "state")
        return {name: getattr(self, name) for name in names}

    def forward(self, hidden: Tensor) -> Tensor:
        """The query and, last, the state's logit: (..., hidden_size) to (..., rank + 1)."""
        seen = hidden.detach() if self.state == "alone" else hidden
        return torch.cat([self.query_layers(hidden), self.state_layers(seen)], dim=-1)

    def next_logits(self, raw: Tensor, candidate_ids: Tensor) -> Tensor:
        if self.vocab_size is None:
            raise InputError("this ActionValueHead does not know its vocabulary; give it `vocab_size`.")
        # element by element in float32: half precision would blur what tells candidates apart
        raw = at_least_float32(raw)[..., None, :]
        # `embedding` gathers rows several times as fast as indexing does
        advantage = (F.embedding(candidate_ids, self.embedding) * raw[..., :-1]).sum(-1)
        bias = F.embedding(candidate_ids, self.bias[:, None]).squeeze(-1)
        return raw[..., -1] + advantage + bias

    def remaining(self, raw: Tensor, target: AbstractLengthTarget) -> Tensor:
        return target.decode(raw[..., -1])

    def horizon(self, raw: Tensor, target: AbstractLengthTarget, gamma: float) -> Tensor:
        return target.horizon(raw[..., -1], gamma)

    def state_losses(
        self, raw: Tensor, states: SupervisedStates, target: AbstractLengthTarget, loss: AbstractLoss
    ) -> Tensor:
        prediction = target.predict(raw[..., -1])
        state_loss = loss(prediction, target.regression_target(prediction, states.remaining, states.trajectory))
        logits = self.next_logits(raw, states.next_ids.clamp_min(0)[..., None]).squeeze(-1)
        action_loss = loss(target.predict(logits), self._action_target(prediction.detach(), states, target))
        return state_loss + self.action_weight * action_loss.masked_fill(~self.continues(states), 0.0)

    def _action_target(self, prediction: Tensor, states: SupervisedStates, target: AbstractLengthTarget) -> Tensor:
        label = target.encode((states.remaining - 1).clamp_min(0)).to(prediction.dtype)
        if self.teacher == 0.0:
            return label
        follows = (states.trajectory[1:] == states.trajectory[:-1]) & (
            states.remaining[1:] == states.remaining[:-1] - 1
        )
        taught = label.clone()
        taught[:-1] = torch.where(follows, torch.lerp(label[:-1], prediction[1:], self.teacher), label[:-1])
        return taught

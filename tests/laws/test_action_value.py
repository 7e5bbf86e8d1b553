"""What is particular to `ActionValueHead`; the laws of all heads are in test_heads.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lenvm.backbones import RandomBackbone
from lenvm.errors import InputError
from lenvm.heads import ActionValueHead
from lenvm.losses import Huber, SquaredError
from lenvm.states import SupervisedStates
from lenvm.targets import DiscountedReturn, LogLength

HIDDEN, VOCABULARY = 32, 67
TARGET = DiscountedReturn(gamma=0.9)


def head(**options: Any) -> ActionValueHead:
    made = ActionValueHead(HIDDEN, VOCABULARY, **options)
    torch.nn.init.normal_(made.embedding)
    torch.nn.init.normal_(made.bias)
    return made


def states(remaining: list[int], trajectory: list[int], next_ids: list[int]) -> SupervisedStates:
    return SupervisedStates(
        torch.tensor(remaining),
        torch.tensor(trajectory),
        torch.tensor(next_ids),
        torch.zeros(len(remaining), dtype=torch.bool),
    )


# a whole completion, one clipped on the right, one clipped on the left with its terminal state
LABELS = states([3, 2, 1, 9, 8, 2, 1, 0], [0, 0, 0, 1, 1, 2, 2, 2], [5, 6, 3, 7, 8, 9, 3, -1])


def silu_mlp(hidden: Tensor, layers: torch.nn.Module) -> Tensor:
    w1, b1, w2, b2 = layers.parameters()
    inner = hidden @ w1.T + b1
    return (inner * torch.sigmoid(inner)) @ w2.T + b2


def test_the_logit_of_an_action_is_the_formula() -> None:
    made, hidden = head(rank=3, width=5), torch.randn(2, HIDDEN)
    ids = torch.tensor([[0, 66, 5], [5, 5, 1]])
    state, query = silu_mlp(hidden, made.state_layers), silu_mlp(hidden, made.query_layers)
    assert query.shape == (2, 3)
    expected = torch.stack(
        [
            torch.stack([state[i, 0] + query[i] @ made.embedding[x] + made.bias[x] for x in row])
            for i, row in enumerate(ids)
        ]
    )
    raw = made(hidden)
    torch.testing.assert_close(made.next_logits(raw, ids), expected)
    torch.testing.assert_close(made.next_remaining(raw, ids, TARGET), TARGET.decode(expected))
    torch.testing.assert_close(made.remaining(raw, TARGET), TARGET.decode(state[:, 0]))
    torch.testing.assert_close(made.horizon(raw, TARGET, 0.8), TARGET.horizon(state[:, 0], 0.8))


def test_every_candidate_starts_from_the_states_own_logit() -> None:
    made, hidden = ActionValueHead(HIDDEN, VOCABULARY), torch.randn(50, HIDDEN)
    raw = made(hidden)
    following = made.next_logits(raw, torch.arange(VOCABULARY).expand(50, -1))
    assert (following - raw[:, -1:]).abs().max() < 0.3
    assert following.std(dim=1).min() > 0


@pytest.mark.parametrize("target", [TARGET, LogLength()], ids=str)
@pytest.mark.parametrize("teacher", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("action_weight", [1.0, 0.5])
def test_the_loss_is_that_of_the_state_and_of_the_action(target: Any, teacher: float, action_weight: float) -> None:
    made, loss = head(teacher=teacher, action_weight=action_weight), Huber(delta=0.3)
    raw = made(torch.randn(8, HIDDEN))
    value = target.predict(raw[:, -1])
    expected = loss(value, target.encode(LABELS.remaining))
    # the state after t is in the batch for 0, 1 and 5; what follows 4 is not, and 2, 6 and 7 have no action to learn
    wanted = target.encode(LABELS.remaining - 1)
    for t in (0, 1, 3, 5):
        wanted[t] = (1 - teacher) * wanted[t] + teacher * value[t + 1]
    for t in (0, 1, 3, 4, 5):
        logit = raw[t, -1] + raw[t, :-1] @ made.embedding[LABELS.next_ids[t]] + made.bias[LABELS.next_ids[t]]
        expected[t] = expected[t] + action_weight * loss(target.predict(logit), wanted[t])
    torch.testing.assert_close(made.state_losses(raw, LABELS, target, loss), expected)


def test_no_gradient_flows_through_the_teacher() -> None:
    made, hidden = head(teacher=1.0), torch.randn(8, HIDDEN)
    raw = made(hidden).detach().requires_grad_()
    made.state_losses(raw, LABELS, TARGET, SquaredError())[0].backward()
    assert raw.grad is not None
    assert raw.grad[0].abs().max() > 0
    assert raw.grad[1:].abs().max() == 0


def gradients(state: str, action_weight: float, config: dict[str, Any]) -> tuple[Tensor | None, Tensor | None]:
    """What reaches the backbone and the state's own layers."""
    torch.manual_seed(0)
    backbone, made = RandomBackbone(config), head(state=state, action_weight=action_weight)
    raw = made(backbone(torch.randint(0, 67, (1, 8)))[0])
    made.state_losses(raw, LABELS, TARGET, SquaredError()).sum().backward()
    return backbone.transformer.norm.weight.grad, made.state_layers[0].weight.grad


def test_alone_the_state_is_read_off_and_shapes_no_hidden_state(tiny_backbone_config: dict[str, Any]) -> None:
    alone, together = (gradients(state, 0.0, tiny_backbone_config) for state in ("alone", "together"))
    assert alone[0] is None or alone[0].abs().max() == 0
    assert together[0].abs().max() > 0
    torch.testing.assert_close(alone[1], together[1])
    # the action's loss does shape it
    assert gradients("alone", 1.0, tiny_backbone_config)[0].abs().max() > 0


def test_half_precision_does_not_blur_what_tells_candidates_apart() -> None:
    made = head()
    raw, ids = made(torch.randn(20, HIDDEN)).to(torch.bfloat16), torch.arange(20)[:, None]
    found = made.next_logits(raw, ids)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, made.next_logits(raw.float(), ids), rtol=0, atol=0)


def test_the_vocabulary_is_the_backbones_unless_it_is_given() -> None:
    made = ActionValueHead(HIDDEN)
    assert made.options["vocab_size"] is None
    with pytest.raises(InputError, match="does not know its vocabulary; give it `vocab_size`"):
        made.next_logits(made(torch.randn(2, HIDDEN)), torch.tensor([[1], [2]]))
    made.set_vocab_size(11)
    made.set_vocab_size(99)
    assert made.options["vocab_size"] == 11
    assert made.embedding.shape == (11, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "`rank` must be at least 1, got 0"),
        ({"teacher": 1.5}, r"`teacher` must lie in \[0, 1\], got 1.5"),
        ({"action_weight": -1.0}, "`action_weight` must not be negative, got -1.0"),
        ({"state": "apart"}, "`state` must be `together` or `alone`, got 'apart'"),
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ActionValueHead(HIDDEN, **options)

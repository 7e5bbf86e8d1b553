from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lenvm.heads
from lenvm.backbones import RandomBackbone
from lenvm.class_path import build, describe
from lenvm.heads import AbstractHead, LinearHead, MLPHead
from lenvm.losses import SquaredError
from lenvm.states import SupervisedStates
from lenvm.targets import DiscountedReturn

HIDDEN = 32
TARGET = DiscountedReturn(gamma=0.9)


def discovered() -> list[type[AbstractHead]]:
    for module in pkgutil.iter_modules(lenvm.heads.__path__, "lenvm.heads."):
        importlib.import_module(module.name)

    def below(cls: type) -> list[type]:
        return [found for sub in cls.__subclasses__() for found in (sub, *below(sub))]

    return [cls for cls in below(AbstractHead) if not inspect.isabstract(cls)]


laws = pytest.mark.parametrize("head_class", discovered())


def states(lengths: list[int], vocab_size: int = 67) -> SupervisedStates:
    remaining = torch.cat([torch.arange(n, 0, -1) for n in lengths])
    return SupervisedStates(
        remaining=remaining,
        trajectory=torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        next_ids=torch.randint(0, vocab_size, remaining.shape),
        censored=torch.zeros_like(remaining, dtype=torch.bool),
    )


def test_discovery_finds_the_linear_head_and_the_papers_mlp() -> None:
    assert {LinearHead, MLPHead} <= set(discovered())


@laws
@pytest.mark.parametrize("shape", [(), (5,), (2, 7), (0,)])
def test_lengths_and_horizons_have_one_number_per_state(head_class: type[AbstractHead], shape: tuple[int, ...]) -> None:
    head = head_class(HIDDEN)
    raw = head(torch.randn(*shape, HIDDEN))
    assert raw.shape[: len(shape)] == shape
    assert head.remaining(raw, TARGET).shape == shape
    horizon = head.horizon(raw, TARGET, 0.95)
    assert horizon.shape == shape
    assert ((horizon >= 0) & (horizon < 1)).all()


@laws
def test_the_horizon_agrees_with_the_predicted_length_in_its_order(head_class: type[AbstractHead]) -> None:
    head = head_class(HIDDEN)
    raw = head(torch.randn(50, HIDDEN))
    order = head.remaining(raw, TARGET).argsort()
    assert (head.horizon(raw, TARGET, 0.95)[order].diff() >= 0).all()


@laws
def test_there_is_one_loss_per_state_and_it_reaches_every_weight(head_class: type[AbstractHead]) -> None:
    head, labels = head_class(HIDDEN), states([3, 1, 4])
    losses = head.state_losses(head(torch.randn(8, HIDDEN)), labels, TARGET, SquaredError())
    assert losses.shape == (8,)
    losses.sum().backward()
    for name, parameter in head.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@laws
def test_right_padding_does_not_change_what_is_said_of_real_positions(
    head_class: type[AbstractHead], tiny_backbone_config: dict[str, Any]
) -> None:
    backbone, head = RandomBackbone(tiny_backbone_config).eval(), head_class(HIDDEN)
    rows = [torch.randint(0, 67, (n,)) for n in (3, 11, 7)]
    with torch.no_grad():
        alone = [head(backbone(row[None]))[0] for row in rows]
        zeros = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        longer = [*rows, torch.zeros(20, dtype=torch.long)]
        others = nn.utils.rnn.pad_sequence(longer, batch_first=True, padding_value=5)
        for padded in (head(backbone(zeros)), head(backbone(others))):
            for row, expected in enumerate(alone):
                torch.testing.assert_close(padded[row, : len(expected)], expected, rtol=1e-4, atol=1e-5)
        # the law could fail: what stands to the left does matter
        changed = rows[1].clone()
        changed[0] = (changed[0] + 1) % 67
        assert not torch.allclose(head(backbone(changed[None]))[0, 1:], alone[1][1:], rtol=1e-4, atol=1e-5)


@laws
def test_one_batch_can_be_learned_by_heart(
    head_class: type[AbstractHead], tiny_backbone_config: dict[str, Any]
) -> None:
    lengths = [4, 9, 15, 6]
    backbone, head, labels = RandomBackbone(tiny_backbone_config), head_class(HIDDEN), states(lengths)
    input_ids = torch.randint(0, 67, (4, 15))
    keep = torch.cat([torch.arange(n) + 15 * row for row, n in enumerate(lengths)])
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-2)

    def loss() -> Tensor:
        raw = head(backbone(input_ids).flatten(0, 1)[keep])
        return head.state_losses(raw, labels, TARGET, SquaredError()).mean()

    before = loss().item()
    for _ in range(40):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < before / 10


@laws
def test_a_head_round_trips_through_its_class_path(head_class: type[AbstractHead]) -> None:
    head = head_class(HIDDEN)
    twin = build(describe(head, head.options), AbstractHead, HIDDEN)  # type: ignore[type-abstract]
    assert type(twin) is head_class
    assert twin.options == head.options
    twin.load_state_dict(head.state_dict())
    hidden = torch.randn(3, HIDDEN)
    assert torch.equal(twin(hidden), head(hidden))


def test_the_mlp_round_trips_with_its_width() -> None:
    head = MLPHead(HIDDEN, width=12)
    twin = build(describe(head, head.options), AbstractHead, HIDDEN)  # type: ignore[type-abstract]
    twin.load_state_dict(head.state_dict())
    assert [p.shape for p in twin.parameters()] == [(12, HIDDEN), (12,), (1, 12), (1,)]


def test_the_mlp_is_linear_silu_linear() -> None:
    head, hidden = MLPHead(HIDDEN, width=5), torch.randn(4, HIDDEN)
    w1, b1, w2, b2 = head.parameters()
    inner = hidden @ w1.T + b1
    torch.testing.assert_close(head(hidden), ((inner * torch.sigmoid(inner)) @ w2.T + b2)[:, 0])


def test_the_linear_head_is_one_linear_map() -> None:
    head, hidden = LinearHead(HIDDEN), torch.randn(4, HIDDEN)
    torch.testing.assert_close(head(hidden), hidden @ head.output.weight[0] + head.output.bias)

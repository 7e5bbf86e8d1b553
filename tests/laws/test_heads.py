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
from lenvm.heads import AbstractActionHead, AbstractHead, LinearHead, MLPHead
from lenvm.losses import SquaredError
from lenvm.states import SupervisedStates
from lenvm.targets import DiscountedReturn

HIDDEN, VOCABULARY = 32, 67
TARGET = DiscountedReturn(gamma=0.9)


def discovered() -> list[type[AbstractHead]]:
    for module in pkgutil.iter_modules(lenvm.heads.__path__, "lenvm.heads."):
        importlib.import_module(module.name)

    def below(cls: type) -> list[type]:
        return [found for sub in cls.__subclasses__() for found in (sub, *below(sub))]

    return [cls for cls in below(AbstractHead) if not inspect.isabstract(cls)]


laws = pytest.mark.parametrize("head_class", discovered())
action_laws = pytest.mark.parametrize(
    "head_class", [cls for cls in discovered() if issubclass(cls, AbstractActionHead)]
)


def make(head_class: type[AbstractHead]) -> AbstractHead:
    """The head as it stands on a backbone."""
    head = head_class(HIDDEN)
    head.set_vocab_size(VOCABULARY)
    return head


def states(lengths: list[int], vocab_size: int = VOCABULARY) -> SupervisedStates:
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
    head = make(head_class)
    raw = head(torch.randn(*shape, HIDDEN))
    assert raw.shape[: len(shape)] == shape
    assert head.remaining(raw, TARGET).shape == shape
    horizon = head.horizon(raw, TARGET, 0.95)
    assert horizon.shape == shape
    assert ((horizon >= 0) & (horizon < 1)).all()


@laws
def test_the_horizon_agrees_with_the_predicted_length_in_its_order(head_class: type[AbstractHead]) -> None:
    head = make(head_class)
    raw = head(torch.randn(50, HIDDEN))
    order = head.remaining(raw, TARGET).argsort()
    assert (head.horizon(raw, TARGET, 0.95)[order].diff() >= 0).all()


@laws
def test_there_is_one_loss_per_state_and_it_reaches_every_weight(head_class: type[AbstractHead]) -> None:
    head, labels = make(head_class), states([3, 1, 4])
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
    backbone, head = RandomBackbone(tiny_backbone_config).eval(), make(head_class)
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
    backbone, head, labels = RandomBackbone(tiny_backbone_config), make(head_class), states(lengths)
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
    head = make(head_class)
    twin = build(describe(head, head.options), AbstractHead, HIDDEN)  # type: ignore[type-abstract]
    assert type(twin) is head_class
    assert twin.options == head.options
    twin.load_state_dict(head.state_dict())
    hidden = torch.randn(3, HIDDEN)
    assert torch.equal(twin(hidden), head(hidden))


@laws
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_head_keeps_its_type_when_it_learns_the_vocabulary(
    head_class: type[AbstractHead], dtype: torch.dtype
) -> None:
    head = head_class(HIDDEN).to(dtype)
    head.set_vocab_size(VOCABULARY)
    assert {p.dtype for p in head.parameters()} == {dtype}


@action_laws
@pytest.mark.parametrize("shape", [(), (5,), (2, 7), (0,)])
def test_next_lengths_have_one_number_per_candidate(
    head_class: type[AbstractActionHead], shape: tuple[int, ...]
) -> None:
    head = make(head_class)
    assert isinstance(head, AbstractActionHead)
    raw, ids = head(torch.randn(*shape, HIDDEN)), torch.randint(0, VOCABULARY, (*shape, 4))
    remaining, horizon = head.next_remaining(raw, ids, TARGET), head.next_horizon(raw, ids, TARGET, 0.95)
    assert remaining.shape == horizon.shape == head.next_logits(raw, ids).shape == (*shape, 4)
    assert (remaining >= 0).all()
    torch.testing.assert_close(horizon, 1 - 0.95**remaining, rtol=1e-4, atol=1e-5)


@action_laws
def test_a_candidate_gets_the_same_number_whatever_is_asked_beside_it(head_class: type[AbstractActionHead]) -> None:
    head = make(head_class)
    assert isinstance(head, AbstractActionHead)
    raw = head(torch.randn(3, HIDDEN))
    everything = head.next_remaining(raw, torch.arange(VOCABULARY).expand(3, -1), TARGET)
    assert everything[0].std() > 0
    ids = torch.tensor([[5, 66], [0, 5], [7, 7]])
    torch.testing.assert_close(head.next_remaining(raw, ids, TARGET), everything.gather(1, ids))


@action_laws
def test_raw_outputs_do_not_grow_with_the_vocabulary(head_class: type[AbstractActionHead]) -> None:
    small, large = head_class(HIDDEN), head_class(HIDDEN)
    small.set_vocab_size(7)
    large.set_vocab_size(70_000)
    hidden = torch.randn(3, HIDDEN)
    assert small(hidden).shape == large(hidden).shape


@action_laws
def test_actions_are_learned_from_tokens_that_do_not_end_the_completion(head_class: type[AbstractActionHead]) -> None:
    head, labels = make(head_class), states([3, 1, 2])
    assert isinstance(head, AbstractActionHead)
    ended = labels._replace(next_ids=labels.next_ids.masked_fill(labels.remaining == 2, -1))
    assert head.continues(labels).tolist() == [True, True, False, False, True, False]
    assert head.continues(ended).tolist() == [True, False, False, False, False, False]
    raw = head(torch.randn(6, HIDDEN))
    errors = head.next_errors(raw, labels, TARGET)
    expected = head.next_remaining(raw, labels.next_ids[:, None], TARGET)[[0, 1, 4], 0] - torch.tensor([2, 1, 1])
    torch.testing.assert_close(errors, expected.abs())


@action_laws
def test_what_ends_a_completion_does_not_change_any_weight(head_class: type[AbstractActionHead]) -> None:
    """EOS has no row to learn: whichever id it has, the loss is the same."""
    head, labels = make(head_class), states([3, 1, 4])
    hidden = torch.randn(8, HIDDEN)
    other = labels._replace(next_ids=torch.where(labels.remaining == 1, 3, labels.next_ids))
    terminal = labels._replace(next_ids=torch.where(labels.remaining == 1, -1, labels.next_ids))
    found = [head.state_losses(head(hidden), s, TARGET, SquaredError()) for s in (labels, other, terminal)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


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

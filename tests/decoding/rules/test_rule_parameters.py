"""What rules accept, what they refuse, and how parameters per row follow the rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lenvm.decoding.rules import (
    AbstractRule,
    AtLeast,
    AtMost,
    EntropyGate,
    EqualTo,
    MatchHorizon,
    PerRow,
    ScaleHorizon,
    Tilt,
    ValueFloor,
)
from lenvm.errors import InputError

WITH_TARGET = [EqualTo, AtMost, AtLeast, MatchHorizon]


@pytest.mark.parametrize("cls", WITH_TARGET)
@pytest.mark.parametrize("n", [0, -3, 2.5, [4, 0], [3.5], "ten", [[3]], True])
def test_a_target_is_a_positive_whole_number(cls: type[AbstractRule], n: Any) -> None:
    with pytest.raises(InputError, match=r"`n` must be a whole number of tokens, at least 1 .*, got"):
        cls(n=n)


@pytest.mark.parametrize("beta", [math.inf, -math.inf, math.nan, [0.0, math.nan], [1.0, -math.inf]])
def test_beta_is_finite(beta: Any) -> None:
    with pytest.raises(InputError, match=r"`beta` must be finite \(one per row, if it is a list\), got"):
        Tilt(beta=beta)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EqualTo(n=5, mode="soft"), "`mode` must be one of `smooth`, `hard`, got 'soft'"),
        (lambda: EqualTo(n=5, compare="v"), "`compare` must be one of `value`, `length`, got 'v'"),
        (lambda: EqualTo(n=5, spread=0.0), "`spread` must be a positive number, at least 0.001, got 0.0"),
        (lambda: EqualTo(n=5, near=math.inf), "`near` must be a positive number of tokens, got inf"),
        (lambda: AtMost(n=5, mode="smooth"), "`mode` must be one of `minimal`, `hard`, got 'smooth'"),
        (lambda: AtMost(n=5, near=-0.1), "`near` must be a positive number of tokens, got -0.1"),
        (lambda: AtLeast(n=5, mode="smooth"), "`mode` must be one of `minimal`, `hard`, got 'smooth'"),
        (lambda: AtLeast(n=5, spread=math.nan), "`spread` must be a positive number, at least 0.001, got nan"),
        (lambda: ScaleHorizon(how="add"), "`how` must be one of `mul`, `linear`, `exp`, `length_mul`, got 'add'"),
        (lambda: ScaleHorizon(scale=[1.0, -0.5]), r"`scale` must be 0 or a positive number .*, got \[1.0, -0.5\]"),
        (
            lambda: EntropyGate(rule=Tilt(beta=1.0), threshold=-1.0),
            "`threshold` must be 0 or a positive number of nats",
        ),
        (lambda: ValueFloor(rule=Tilt(beta=1.0), minimum=1.5), r"`minimum` must be a horizon in \[0, 1\], got 1.5"),
        (lambda: PerRow(rules=[], which=[]), "`rules` is empty; give at least one rule"),
        (
            lambda: PerRow(rules=[Tilt(beta=1.0)], which=[0, 1]),
            "`which` must name one of the 1 rules for each row, from 0",
        ),
        (
            lambda: PerRow(rules=[Tilt(beta=1.0)], which=[-1]),
            "`which` must name one of the 1 rules for each row, from 0",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("cls", WITH_TARGET)
def test_targets_out_of_reach_are_refused_before_anything_is_written(cls: type[AbstractRule]) -> None:
    cls(n=20).check(shortest=20, longest_possible=20)
    cls(n=[25, 20, 30]).check(shortest=None, longest_possible=30)
    with pytest.raises(InputError, match=r"a target of 9 tokens .* shortest completion .* has 12; ask for 12 or more"):
        cls(n=[14, 9]).check(shortest=12, longest_possible=100)
    with pytest.raises(InputError, match=r"a target of 101 tokens .* only 100 fit .* raise `max_tokens`"):
        cls(n=[14, 101]).check(shortest=None, longest_possible=100)


@pytest.mark.parametrize(
    "outer",
    [
        lambda rule: EntropyGate(rule=rule, threshold=0.1),
        lambda rule: ValueFloor(rule=rule, minimum=0.1),
        lambda rule: PerRow(rules=[Tilt(beta=1.0), rule], which=[0, 1]),
        lambda rule: EntropyGate(rule=ValueFloor(rule=rule, minimum=0.1), threshold=0.1),
    ],
)
def test_a_rule_around_a_rule_asks_it_what_it_wants_and_checks(outer: Any) -> None:
    inner = AtLeast(n=9)
    rule = outer(inner)
    with pytest.raises(InputError, match="a target of 9 tokens"):
        rule.check(shortest=12, longest_possible=100)
    rule.check(shortest=3, longest_possible=9)
    log_probs, mask = torch.full((2, 4), 0.25).log(), torch.ones(2, 4, dtype=torch.bool)
    assert rule.wants(log_probs, mask, torch.tensor([3, 3])).tolist() == [True, True]
    # at the second row, AtLeast has nothing more to do
    assert rule.wants(log_probs, mask, torch.tensor([3, 8])).tolist() == [True, False]
    nested = outer(AtLeast(n=[4, 9]))
    assert nested.num_rows == 2
    assert nested.for_rows(torch.tensor([1])).wants(log_probs[:1], mask[:1], torch.tensor([6])).all()


def test_rules_that_need_no_target_have_nothing_to_check() -> None:
    for rule in (Tilt(beta=1.0), ScaleHorizon(), EntropyGate(rule=Tilt(beta=1.0), threshold=0.0)):
        rule.check(shortest=10, longest_possible=1)


def test_for_rows_takes_the_parameters_of_these_rows() -> None:
    rule = EqualTo(n=[10, 20, 30, 40], spread=0.1).for_rows(torch.tensor([3, 1, 1]))
    assert torch.as_tensor(rule.n).tolist() == [40, 20, 20]
    assert rule.spread == 0.1
    assert Tilt(beta=0.3).for_rows(torch.tensor([0])) == Tilt(beta=0.3)
    exact = torch.as_tensor(Tilt(beta=[0.1, 0.3]).for_rows(torch.tensor([1])).beta)
    assert exact.dtype == torch.float64
    assert exact.tolist() == [0.3]


def test_tuples_and_tensors_are_per_row_too() -> None:
    log_probs = torch.tensor([[0.7, 0.3]] * 3, dtype=torch.float64).log()
    horizons = torch.tensor([[0.2, 0.6]] * 3, dtype=torch.float64)
    arguments = (log_probs, horizons, torch.ones(3, 2, dtype=torch.bool), torch.zeros(3, dtype=torch.long), 0.9)
    expected = Tilt(beta=[-1.0, 0.0, 2.0])(*arguments)
    for beta in ((-1.0, 0.0, 2.0), torch.tensor([-1.0, 0.0, 2.0])):
        rule = Tilt(beta=beta)  # type: ignore[arg-type]
        assert rule.num_rows == 3
        torch.testing.assert_close(rule(*arguments), expected)
    scalar = Tilt(beta=torch.tensor(2.0))  # type: ignore[arg-type]
    assert scalar.num_rows is None
    torch.testing.assert_close(scalar(*arguments)[2], expected[2])


def test_parameters_for_other_rows_than_the_batch_has_are_refused() -> None:
    log_probs = torch.full((3, 2), 0.5).log()
    arguments = (log_probs, torch.rand(3, 2), torch.ones(3, 2, dtype=torch.bool), torch.zeros(3, dtype=torch.long), 0.9)
    for rule in (Tilt(beta=[1.0, 2.0]), EqualTo(n=[4, 5]), AtLeast(n=[4]), PerRow(rules=[Tilt(beta=1.0)], which=[0])):
        with pytest.raises(InputError, match=r"parameters for \d rows, but the batch has 3; give one value per row"):
            rule(*arguments)


def test_per_row_parameters_that_disagree_are_refused() -> None:
    rule = EntropyGate(rule=EqualTo(n=[5, 6, 7]), threshold=[0.1, 0.2])
    with pytest.raises(InputError, match=r"got 3 for `rule.EqualTo`, 2 for `threshold` values"):
        _ = rule.num_rows


def test_the_gate_is_the_entropy_in_nats() -> None:
    log_probs = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], dtype=torch.float64).log()
    mask = log_probs > -math.inf
    horizons, generated = torch.tensor([[0.3, 0.2, 0.1]] * 3, dtype=torch.float64), torch.zeros(3, dtype=torch.long)
    entropies = [math.log(2), 1.5 * math.log(2), 0.0]
    for threshold in (0.0, 0.69, math.log(2), 0.70, 1.03, 1.04):
        rule = EntropyGate(rule=AtMost(n=1, mode="hard"), threshold=threshold)
        new = rule(log_probs, horizons, mask, generated, 0.9)
        changed = (new != log_probs).any(-1).tolist()
        assert changed == [entropy > threshold for entropy in entropies]
        assert rule.wants(log_probs, mask, generated).tolist() == changed


def test_the_floor_is_the_expected_horizon() -> None:
    log_probs = torch.tensor([[0.5, 0.5], [0.5, 0.5]], dtype=torch.float64).log()
    horizons, mask = torch.tensor([[0.2, 0.4], [0.6, 0.8]], dtype=torch.float64), torch.ones(2, 2, dtype=torch.bool)
    for minimum, changed in ((0.29, [True, True]), (0.31, [False, True]), (0.71, [False, False])):
        rule = ValueFloor(rule=AtMost(n=1, mode="hard"), minimum=minimum)
        new = rule(log_probs, horizons, mask, torch.zeros(2, dtype=torch.long), 0.9)
        assert (new != log_probs).any(-1).tolist() == changed


def test_each_row_follows_its_own_rule() -> None:
    torch.manual_seed(2)
    log_probs, horizons = torch.randn(4, 6, dtype=torch.float64).log_softmax(-1), torch.rand(4, 6, dtype=torch.float64)
    mask, generated = torch.ones(4, 6, dtype=torch.bool), torch.tensor([0, 3, 6, 9])
    rules = [Tilt(beta=[1.0, 2.0, 3.0, 4.0]), AtLeast(n=5), EqualTo(n=20, mode="hard")]
    which = [0, 2, 1, 0]
    rule = PerRow(rules=rules, which=which)
    new, wanted = rule(log_probs, horizons, mask, generated, 0.9), rule.wants(log_probs, mask, generated)
    for row, number in enumerate(which):
        own = rules[number](log_probs, horizons, mask, generated, 0.9)[row]
        torch.testing.assert_close(new[row], own, rtol=0, atol=0)
    assert wanted.tolist() == [True, True, False, True]


def test_rules_that_no_row_follows_any_more_are_dropped() -> None:
    rules = [Tilt(beta=[1.0, 2.0, 3.0, 4.0]), AtLeast(n=5), AtMost(n=7)]
    rule = PerRow(rules=rules, which=[0, 2, 1, 0]).for_rows(torch.tensor([1, 3]))
    assert [type(r) for r in rule.rules] == [Tilt, AtMost]
    assert torch.as_tensor(rule.which).tolist() == [1, 0]
    assert rule.num_rows == 2

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from dataclasses import fields
from itertools import product
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor

import lenvm.decoding.rules
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

GAMMA = 0.97
ROWS, WIDTH = 24, 9


def discovered() -> list[type[AbstractRule]]:
    for module in pkgutil.iter_modules(lenvm.decoding.rules.__path__, "lenvm.decoding.rules."):
        importlib.import_module(module.name)

    def below(cls: type) -> list[type]:
        return [found for sub in cls.__subclasses__() for found in (sub, *below(sub))]

    # other tests write rules of their own
    return [cls for cls in below(AbstractRule) if not inspect.isabstract(cls) and cls.__module__.startswith("lenvm.")]


# what parameters of these names may be; other parameters need a default
ONE = {
    "n": 30,
    "beta": -4.0,
    "scale": 0.6,
    "threshold": 1.0,
    "minimum": 0.4,
    "rule": EqualTo(n=30, mode="hard"),
    "rules": [Tilt(beta=6.0), AtMost(n=25)],
    "which": [i % 2 for i in range(ROWS)],
}
PER_ROW = {
    "n": [5 + 3 * i for i in range(ROWS)],
    "beta": [0.7 * i - 6 for i in range(ROWS)],
    "scale": [0.1 * i for i in range(ROWS)],
    "threshold": [0.1 * i for i in range(ROWS)],
    "minimum": [0.04 * i for i in range(ROWS)],
    "rule": MatchHorizon(n=[5 + 3 * i for i in range(ROWS)]),
    "rules": [
        Tilt(beta=[0.7 * i - 6 for i in range(ROWS)]),
        AtLeast(n=40),
        EqualTo(n=[5 + 3 * i for i in range(ROWS)]),
    ],
    "which": [i % 3 for i in range(ROWS)],
}


def examples(cls: type[AbstractRule], values: dict[str, Any]) -> list[AbstractRule]:
    """The rule with each combination of its named choices."""
    hints = get_type_hints(cls)
    choices = {f.name: get_args(hints[f.name]) for f in fields(cls) if get_origin(hints[f.name]) is Literal}
    given = {f.name: values[f.name] for f in fields(cls) if f.name in values}
    return [cls(**given, **dict(zip(choices, picked, strict=True))) for picked in product(*choices.values())]


def name(rule: AbstractRule, suffix: str = "") -> str:
    return "-".join([type(rule).__name__, *(v for v in vars(rule).values() if isinstance(v, str))]) + suffix


RULES = [pytest.param(rule, id=name(rule)) for cls in discovered() for rule in examples(cls, ONE)]
RULES_PER_ROW = [pytest.param(rule, id=name(rule, "-rows")) for cls in discovered() for rule in examples(cls, PER_ROW)]
laws = pytest.mark.parametrize("rule", RULES + RULES_PER_ROW)


class Step(NamedTuple):
    """What a rule is given, all but gamma."""

    log_probs: Tensor
    horizons: Tensor
    mask: Tensor
    generated: Tensor

    def rows(self, index: Tensor) -> Step:
        return Step(*(part[index] for part in self))

    def columns(self, order: Tensor) -> Step:
        return Step(self.log_probs[:, order], self.horizons[:, order], self.mask[:, order], self.generated)


def steps() -> Step:
    """Rows with one to all candidates, with and without an end of text, at many places of a completion."""
    rng = torch.Generator().manual_seed(0)
    mask = torch.rand(ROWS, WIDTH, generator=rng) < 0.7
    mask[:, 0] = True
    mask[0] = torch.arange(WIDTH) == 0
    logits = 2 * torch.randn(ROWS, WIDTH, generator=rng, dtype=torch.float64)
    log_probs = logits.masked_fill(~mask, -math.inf).log_softmax(-1)
    remaining = 1 + 60 * torch.rand(ROWS, WIDTH, generator=rng, dtype=torch.float64)
    remaining[::2, 3] = 0
    mask[1::4, 3] = True
    log_probs = torch.where(mask & log_probs.isinf(), -3.0, log_probs).log_softmax(-1)
    return Step(log_probs, 1 - GAMMA**remaining, mask, torch.arange(ROWS) * 3 % 41)


def test_discovery_finds_the_rules_of_the_contract() -> None:
    wanted = {EqualTo, AtMost, AtLeast, Tilt, MatchHorizon, ScaleHorizon, EntropyGate, ValueFloor, PerRow}
    assert wanted <= set(discovered())


def test_the_step_of_these_laws_has_every_kind_of_row() -> None:
    step = steps()
    ends = (step.mask & (step.horizons == 0)).any(-1)
    assert step.mask.sum(-1).min() == 1
    assert ends.any()
    assert (~ends).any()


@laws
def test_rows_stay_normalised_and_nothing_appears_outside_the_candidates(rule: AbstractRule) -> None:
    step = steps()
    new = rule(*step, GAMMA)
    assert new.shape == step.mask.shape
    torch.testing.assert_close(new.exp().sum(-1), torch.ones(ROWS, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (new[~step.mask] == -math.inf).all()


@laws
def test_a_single_candidate_stays(rule: AbstractRule) -> None:
    step = steps()
    for column, horizon in product(range(3), (0.0, 0.3)):
        mask = torch.zeros_like(step.mask)
        mask[:, column] = True
        log_probs = torch.where(mask, 0.0, -math.inf).double()
        horizons = torch.where(mask, horizon, step.horizons)
        new = rule(log_probs, horizons, mask, step.generated, GAMMA)
        torch.testing.assert_close(new, log_probs, rtol=0, atol=1e-12)


@laws
def test_a_row_gets_in_the_batch_what_it_gets_alone(rule: AbstractRule) -> None:
    step = steps()
    rows = [torch.tensor([i]) for i in range(ROWS)]
    alone = [rule.for_rows(row)(*step.rows(row), GAMMA) for row in rows]
    torch.testing.assert_close(rule(*step, GAMMA), torch.cat(alone), rtol=1e-9, atol=1e-9)
    wanted = [rule.for_rows(row).wants(*(step.rows(row)[i] for i in (0, 2, 3))) for row in rows]
    assert torch.equal(rule.wants(step.log_probs, step.mask, step.generated), torch.cat(wanted))


@laws
def test_rows_may_be_chosen_again_and_in_any_order(rule: AbstractRule) -> None:
    step = steps()
    first, second = torch.randperm(ROWS)[: ROWS - 5], torch.tensor([3, 3, 0, 11])
    index = first[second]
    expected = rule(*step, GAMMA)[index]
    torch.testing.assert_close(rule.for_rows(first).for_rows(second)(*step.rows(index), GAMMA), expected)
    nobody = torch.zeros(0, dtype=torch.long)
    assert rule.for_rows(nobody)(*step.rows(nobody), GAMMA).shape == (0, WIDTH)


@pytest.mark.parametrize("rule", RULES_PER_ROW)
def test_per_row_parameters_are_counted(rule: AbstractRule) -> None:
    assert rule.num_rows == ROWS
    assert rule.for_rows(torch.tensor([1, 2, 5])).num_rows == 3


@pytest.mark.parametrize("rule", [p for p in RULES if not isinstance(p.values[0], PerRow)])
def test_plain_parameters_are_for_any_number_of_rows(rule: AbstractRule) -> None:
    assert rule.num_rows is None


@laws
def test_what_a_rule_does_not_want_scored_it_leaves_alone(rule: AbstractRule) -> None:
    step = steps()
    wanted = rule.wants(step.log_probs, step.mask, step.generated)
    assert wanted.shape == (ROWS,)
    assert wanted.dtype == torch.bool
    assert not wanted[0]  # a single candidate
    unscored = torch.where(wanted[:, None], step.horizons, 0.0)
    new = rule(step.log_probs, unscored, step.mask, step.generated, GAMMA)
    torch.testing.assert_close(new[~wanted], step.log_probs[~wanted], rtol=0, atol=1e-12)
    torch.testing.assert_close(new[wanted], rule(*step, GAMMA)[wanted], rtol=0, atol=1e-12)


@laws
def test_the_order_of_the_candidates_does_not_matter(rule: AbstractRule) -> None:
    step, order = steps(), torch.randperm(WIDTH)
    torch.testing.assert_close(rule(*step.columns(order), GAMMA), rule(*step, GAMMA)[:, order], rtol=1e-9, atol=1e-9)


@laws
def test_other_types_give_the_same_up_to_their_precision(rule: AbstractRule) -> None:
    step = steps()
    exact = rule(*step, GAMMA)
    for kind, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        new = rule(step.log_probs.to(kind), step.horizons, step.mask, step.generated, GAMMA)
        assert new.dtype == kind
        torch.testing.assert_close(new.exp().double(), exact.exp(), rtol=0, atol=tolerance)
    coarse = rule(step.log_probs, step.horizons.float(), step.mask, step.generated, GAMMA)
    assert coarse.dtype == torch.float64
    torch.testing.assert_close(coarse.exp(), exact.exp(), rtol=0, atol=1e-4)


@laws
def test_the_arguments_stay_as_they_were(rule: AbstractRule) -> None:
    step = steps()
    before = [part.clone() for part in step]
    rule(*step, GAMMA)
    assert all(torch.equal(a, b) for a, b in zip(step, before, strict=True))


@laws
def test_long_after_every_target_the_end_can_be_reached(rule: AbstractRule) -> None:
    step = steps()
    ends = step.mask & (step.horizons == 0)
    assert ends.any(-1).sum() > 5
    new = rule(step.log_probs, step.horizons, step.mask, torch.full((ROWS,), 10_000), GAMMA)
    assert (new[ends] > -math.inf).all()


NO_OPS = [
    Tilt(beta=0.0),
    Tilt(beta=[0.0] * ROWS),
    AtMost(n=10_000),
    AtLeast(n=1),
    AtLeast(n=1, mode="hard"),
    EntropyGate(rule=AtMost(n=1, mode="hard"), threshold=10.0),
    ValueFloor(rule=AtMost(n=1, mode="hard"), minimum=1.0),
    PerRow(rules=[Tilt(beta=0.0), AtLeast(n=1)], which=[i % 2 for i in range(ROWS)]),
    *(ScaleHorizon(how=how, scale=1.0) for how in ("mul", "linear", "exp", "length_mul")),
]


@pytest.mark.parametrize("rule", NO_OPS, ids=name)
def test_without_strength_nothing_changes(rule: AbstractRule) -> None:
    step = steps()
    torch.testing.assert_close(rule(*step, GAMMA), step.log_probs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", [p for p in RULES if p.values[0] != ONE["rule"]])
def test_at_its_strength_of_these_laws_every_rule_changes_something(rule: AbstractRule) -> None:
    step = steps()
    assert (rule(*step, GAMMA).exp() - step.log_probs.exp()).abs().max() > 0.1

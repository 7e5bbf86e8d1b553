from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD

from lenvm.errors import InputError
from lenvm.training.schedule import AbstractSchedule, WarmupConstant, WarmupCosine


def rates(schedule: AbstractSchedule, num_steps: int) -> list[float]:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer, num_steps)
    found = []
    for _ in range(num_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def test_warmup_cosine_rises_linearly_and_falls_as_a_cosine_to_zero() -> None:
    found = rates(WarmupCosine(warmup_fraction=0.2), 20)
    assert found[:4] == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert found[4:] == pytest.approx([1 + math.cos(math.pi * i / 16) for i in range(17)])
    assert found[-1] == pytest.approx(0.0, abs=1e-12)


def test_warmup_constant_rises_linearly_and_stays() -> None:
    assert rates(WarmupConstant(warmup_fraction=0.2), 20) == pytest.approx([0.0, 0.5, 1.0, 1.5] + [2.0] * 17)


@pytest.mark.parametrize("schedule", [WarmupConstant(warmup_fraction=0), WarmupCosine(warmup_fraction=0)], ids=str)
@pytest.mark.parametrize("num_steps", [1, 10])
def test_without_warmup_the_first_step_has_the_full_rate(schedule: AbstractSchedule, num_steps: int) -> None:
    assert rates(schedule, num_steps)[0] == 2.0


@pytest.mark.parametrize("fraction", [-0.1, 1.0, math.nan])
@pytest.mark.parametrize("schedule", [WarmupConstant, WarmupCosine])
def test_a_fraction_outside_0_1_is_refused(schedule: type, fraction: float) -> None:
    with pytest.raises(InputError, match=r"`warmup_fraction` must lie in \[0, 1\), got"):
        schedule(warmup_fraction=fraction)

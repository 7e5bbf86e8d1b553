from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, distributed

from lenvm.metrics import POSITIONS, LengthErrors


class States(NamedTuple):
    predicted: Tensor
    remaining: Tensor
    value_error: Tensor
    position: Tensor
    length: Tensor
    domain: Tensor


def random_states(num_completions: int = 23, num_domains: int = 2) -> States:
    lengths = torch.randint(1, 40, (num_completions,))
    rows = torch.repeat_interleave(torch.arange(num_completions), lengths)
    position = torch.cat([torch.arange(int(n)) for n in lengths])
    remaining = lengths[rows] - position
    return States(
        predicted=remaining + 5 * torch.randn(len(rows)),
        remaining=remaining,
        value_error=torch.randn(len(rows)) / 10,
        position=position,
        length=lengths[rows],
        domain=torch.randint(0, num_domains, (num_completions,))[rows],
    )


def everything(states: States) -> Tensor:
    return torch.arange(len(states.remaining))


def by_numpy(states: States) -> dict[str, float]:
    predicted, remaining, value_error, position, length, _ = (column.double().numpy() for column in states)
    error = np.abs(predicted - remaining)
    found = {
        "value_mse": np.mean(value_error**2),
        "length_mae": np.mean(error),
        "length_relative_error": np.mean(error / remaining),
    }
    for q in POSITIONS:
        here = position == np.floor(q * length)
        found[f"value_mse_p{q * 100:.0f}"] = np.mean(value_error[here] ** 2)
        found[f"length_mae_p{q * 100:.0f}"] = np.mean(error[here])
        found[f"length_relative_error_p{q * 100:.0f}"] = np.mean(error[here] / remaining[here])
    return {name: float(number) for name, number in found.items()}


def expected(states: States, domains: list[str]) -> dict[str, float]:
    results = by_numpy(states)
    for i, name in enumerate(domains):
        here = states.domain == i
        results |= {f"{name}/{key}": v for key, v in by_numpy(States(*(c[here] for c in states))).items()}
    return results


def measured(states: States, domains: list[str], cut: list[Tensor]) -> dict[str, float]:
    metric = LengthErrors(domains)
    for part in cut:
        metric.update(*(column[part] for column in states))
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize("batch_size", [1, 7, 100, 10_000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_length_errors_are_those_of_the_whole_data_however_it_is_cut_and_ordered(
    batch_size: int, shuffled: bool
) -> None:
    states, domains = random_states(), ["math", "code"]
    order = torch.randperm(len(states.remaining)) if shuffled else everything(states)
    found = measured(states, domains, list(order.split(batch_size)))
    assert found == pytest.approx(expected(states, domains), rel=1e-6)


def test_a_mean_of_batch_means_would_be_something_else() -> None:
    # otherwise the law above could not fail
    states = random_states(num_domains=1)
    means = [measured(states, ["all"], [part])["length_mae"] for part in everything(states).split(100)]
    assert np.mean(means) != pytest.approx(by_numpy(states)["length_mae"], rel=1e-3)


def test_one_domain_is_not_reported_twice() -> None:
    states = random_states(num_domains=1)
    assert set(measured(states, ["all"], [everything(states)])) == set(by_numpy(states))


def test_a_domain_without_states_has_no_number_and_does_not_touch_the_others() -> None:
    states = random_states(num_domains=2)
    found = measured(states, ["math", "code", "none"], [everything(states)])
    assert math.isnan(found["none/length_mae"])
    others = {name: number for name, number in found.items() if "none" not in name}
    assert others == pytest.approx(expected(states, ["math", "code"]), rel=1e-6)


def test_the_relative_positions_of_a_completion_by_hand() -> None:
    # five tokens: 0, 25, 50 and 75 % stand before the tokens 0, 1, 2 and 3
    position = torch.arange(5)
    remaining, predicted = 5 - position, 5 - position + 10.0**position
    metric = LengthErrors(["all"])
    metric.update(predicted, remaining, torch.zeros(5), position, torch.full((5,), 5), torch.zeros(5).long())
    found = metric.compute()
    assert [found[f"length_mae_p{p}"].item() for p in (0, 25, 50, 75)] == [1.0, 10.0, 100.0, 1000.0]
    assert found["length_relative_error_p50"].item() == pytest.approx(100 / 3)
    assert found["length_mae"].item() == pytest.approx(11111 / 5)


def test_an_included_terminal_state_does_not_divide_by_zero() -> None:
    metric = LengthErrors(["all"])
    metric.update(*States(*(torch.tensor([v]) for v in (0.5, 0, 0.1, 4, 4, 0))))
    assert metric.compute()["length_relative_error"].item() == 0.5


def test_sums_over_very_many_states_do_not_stall() -> None:
    # a float32 sum stops growing at 2**24 tokens
    metric = LengthErrors(["all"])
    n = 1 << 12
    metric.absolute += 2.0**24
    metric.count += 2.0**24
    one, zero = torch.ones(n), torch.zeros(n)
    metric.update(2 * one, one, zero, one, one, zero.long())
    assert metric.compute()["length_mae"].item() == 1.0
    assert metric.count[0, 0].item() == 2**24 + n


def _on_one_of_two(rank: int, folder: str, states: States, domains: list[str]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    metric = LengthErrors(domains)
    # uneven shares in uneven batches
    own = everything(states)[:100] if rank == 0 else everything(states)[100:]
    for part in own.split(64):
        metric.update(*(column[part] for column in states))
    torch.save(metric.compute(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.timeout(90)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_find_the_same_as_one(tmp_path: Path) -> None:
    states, domains = random_states(), ["math", "code"]
    mp.start_processes(_on_one_of_two, (str(tmp_path), states, domains), nprocs=2, start_method="fork")
    for rank in (0, 1):
        found = {name: value.item() for name, value in torch.load(tmp_path / f"{rank}.pt").items()}
        assert found == pytest.approx(expected(states, domains), rel=1e-6)

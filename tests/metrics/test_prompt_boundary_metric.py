from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from torch import Tensor, distributed

from lenvm.errors import InputError
from lenvm.metrics import PromptBoundaryErrors, boundary_errors, return_consistent_length

GAMMA = 0.97


class Completions(NamedTuple):
    predicted: Tensor
    length: Tensor
    prompt: Tensor
    domain: Tensor


def random_completions(num_prompts: int = 15) -> Completions:
    # prompts with different numbers of completions; what is predicted depends on the prompt alone
    counts = torch.randint(1, 6, (num_prompts,))
    prompt = torch.repeat_interleave(torch.arange(num_prompts), counts)
    typical = torch.randint(5, 100, (num_prompts,))
    length = (typical[prompt] + torch.randint(-4, 5, prompt.shape)).clamp_min(1)
    predicted = (typical * (0.5 + torch.rand(num_prompts))).float()
    return Completions(predicted[prompt], length, prompt, (torch.arange(num_prompts) % 2)[prompt])


def true_length(lengths: np.ndarray, gamma: float) -> float:
    horizon = np.mean(1 - gamma ** lengths.astype(float))
    return math.log(1 - horizon) / math.log(gamma)


def by_numpy(rows: Completions) -> dict[str, float]:
    predicted, length, prompt, _ = (column.numpy() for column in rows)
    numbers = np.unique(prompt)
    true = np.array([true_length(length[prompt == p], GAMMA) for p in numbers])
    guess = np.array([float(predicted[prompt == p][0]) for p in numbers])
    return {
        "boundary_mre": float(np.mean(np.abs(guess - true) / true)),
        "boundary_mae": float(np.mean(np.abs(guess - true))),
        "boundary_kendall_tau": float(kendalltau(guess, true).statistic),
    }


def expected(rows: Completions, domains: list[str]) -> dict[str, float]:
    results = by_numpy(rows)
    for i, name in enumerate(domains):
        here = rows.domain == i
        results |= {f"{name}/{key}": v for key, v in by_numpy(Completions(*(c[here] for c in rows))).items()}
    return results


def measured(rows: Completions, domains: list[str], batches: list[Tensor]) -> dict[str, float]:
    metric = PromptBoundaryErrors(GAMMA, domains)
    for batch in batches:
        metric.update(*(column[batch] for column in rows))
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_boundary_errors_are_those_of_the_whole_data_however_it_is_cut_and_ordered(
    batch_size: int, shuffled: bool
) -> None:
    rows, domains = random_completions(), ["math", "code"]
    order = torch.randperm(len(rows.length)) if shuffled else torch.arange(len(rows.length))
    assert measured(rows, domains, list(order.split(batch_size))) == pytest.approx(expected(rows, domains), rel=1e-5)


def test_prompts_weigh_the_same_however_many_completions_they_have() -> None:
    prompt = torch.tensor([0] * 9 + [1])
    rows = Completions(torch.tensor([10.0] * 9 + [30.0]), torch.tensor([10] * 9 + [20]), prompt, torch.zeros(10).long())
    assert measured(rows, ["all"], [torch.arange(10)])["boundary_mre"] == pytest.approx((0 + 0.5) / 2)


def test_prompt_numbers_may_have_gaps() -> None:
    rows = random_completions()
    spread = rows._replace(prompt=rows.prompt * 1000 + 7)
    everything = [torch.arange(len(rows.length))]
    assert measured(spread, ["all"], everything) == measured(rows, ["all"], everything)


def test_a_domain_without_prompts_is_left_out() -> None:
    rows = random_completions()
    found = measured(rows, ["math", "code", "none"], [torch.arange(len(rows.length))])
    assert found == pytest.approx(expected(rows, ["math", "code"]), rel=1e-5)


def test_without_data_there_is_no_result() -> None:
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert PromptBoundaryErrors(GAMMA, ["all"]).compute() == {}


def test_pairs_are_one_row_per_prompt() -> None:
    rows = random_completions()
    metric = PromptBoundaryErrors(GAMMA, ["math", "code"])
    metric.update(*rows)
    pairs = metric.pairs()
    for p in range(15):
        here = rows.prompt == p
        assert pairs.predicted[p].item() == pytest.approx(rows.predicted[here][0].item())
        assert pairs.true[p].item() == pytest.approx(true_length(rows.length[here].numpy(), GAMMA))
        assert pairs.domain[p].item() == p % 2


@given(
    predicted=st.lists(st.integers(1, 12), min_size=2, max_size=25),
    seed=st.integers(0, 1000),
)
def test_kendall_tau_is_scipys_also_with_ties(predicted: list[int], seed: int) -> None:
    true = np.random.default_rng(seed).integers(1, 8, len(predicted)).astype(float)
    reference = kendalltau(predicted, true).statistic
    found = boundary_errors(torch.tensor(predicted).double(), torch.from_numpy(true))["boundary_kendall_tau"].item()
    assert found == pytest.approx(reference, abs=1e-6, nan_ok=True)


def test_one_prompt_has_no_rank_correlation() -> None:
    found = boundary_errors(torch.tensor([8.0]).double(), torch.tensor([10.0]).double())
    assert math.isnan(found["boundary_kendall_tau"])
    assert found["boundary_mre"].item() == pytest.approx(0.2)


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=20), gamma=st.sampled_from([0.9, 0.99, 0.9998]))
def test_return_consistent_length_follows_its_formula(lengths: list[int], gamma: float) -> None:
    found = return_consistent_length(torch.tensor(lengths), torch.zeros(len(lengths), dtype=torch.long), gamma)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(true_length(np.array(lengths), gamma), rel=1e-6)
    # Jensen: between the shortest and the mean
    assert min(lengths) - 1e-9 <= found.item() <= np.mean(lengths) + 1e-9


def test_return_consistent_length_of_several_groups_in_any_order() -> None:
    lengths, groups = torch.tensor([4, 100, 6, 50, 5]), torch.tensor([1, 0, 1, 0, 2])
    found = return_consistent_length(lengths, groups, 0.95)
    expected_lengths = [true_length(np.array(part), 0.95) for part in ([100, 50], [4, 6], [5])]
    assert found.tolist() == pytest.approx(expected_lengths, rel=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99, 0.9998])
def test_return_consistent_length_does_not_underflow(gamma: float) -> None:
    # with lengths far beyond 1 / (1 - gamma) the formula as it is written gives log(0)
    lengths = torch.tensor([50_000, 50_000, 50_000])
    assert return_consistent_length(lengths, torch.zeros(3).long(), gamma).item() == pytest.approx(50_000, rel=1e-12)
    both = return_consistent_length(torch.tensor([50_000, 60_000]), torch.zeros(2).long(), gamma).item()
    # gamma**60_000 adds next to nothing: half of gamma**50_000 is left
    tail = math.log1p(math.exp(10_000 * math.log(gamma))) / math.log(gamma)
    assert both == pytest.approx(50_000 - math.log(2) / math.log(gamma) + tail, rel=1e-12)


def test_a_gamma_outside_0_1_is_refused() -> None:
    with pytest.raises(InputError, match="`gamma` must lie strictly between 0 and 1"):
        PromptBoundaryErrors(1.0, ["all"])


def _on_one_of_two(rank: int, folder: str, rows: Completions, domains: list[str], first_share: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    metric = PromptBoundaryErrors(GAMMA, domains)
    # completions of one prompt are on both processes, in uneven shares and batches
    order = torch.randperm(len(rows.length), generator=torch.Generator().manual_seed(3))
    own = order[:first_share] if rank == 0 else order[first_share:]
    for batch in own.split(4):
        metric.update(*(column[batch] for column in rows))
    torch.save(metric.compute(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.timeout(90)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("first_share", [11, 0])
def test_two_processes_find_the_same_as_one(tmp_path: Path, first_share: int) -> None:
    rows, domains = random_completions(), ["math", "code"]
    mp.start_processes(_on_one_of_two, (str(tmp_path), rows, domains, first_share), nprocs=2, start_method="fork")
    for rank in (0, 1):
        found = {name: value.item() for name, value in torch.load(tmp_path / f"{rank}.pt").items()}
        assert found == pytest.approx(expected(rows, domains), rel=1e-5)

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lenvm.errors import InputError
from lenvm.returns import covered_length, discounted_returns, gamma_from_lengths, lambda_returns

LAMBDAS = (0.0, 0.5, 0.9, 0.95, 1.0)

every_lambda = pytest.mark.parametrize("lam", LAMBDAS)
EXACT = {"rtol": 0.0, "atol": 1e-12}


def sum_of_rewards(remaining: int, gamma: float) -> float:
    total, weight = 0.0, 1.0
    for _ in range(remaining):  # a reward of -(1 - gamma) for every step that is still to be made
        total += weight * -(1 - gamma)
        weight *= gamma
    return total


def backward_loop(values: Tensor, remaining: Tensor, gamma: float, lam: float) -> list[float]:
    """The recursion over one completion's states in order, step by step from the end."""
    returns = [0.0] * len(values)
    for t in reversed(range(len(values))):
        n = int(remaining[t])
        if n == 0:
            returns[t] = 0.0
        elif n == 1:
            returns[t] = -(1 - gamma)
        elif t + 1 < len(values):
            bootstrap = (1 - lam) * float(values[t + 1]) + lam * returns[t + 1]
            returns[t] = -(1 - gamma) + gamma * bootstrap
        else:  # the window ends here, but the label says what would have followed
            returns[t] = -(1 - gamma) + gamma * sum_of_rewards(n - 1, gamma)
    return returns


def random_values(*shape: int) -> Tensor:
    return -torch.rand(*shape, dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99, 0.9998])
def test_discounted_returns_are_the_sum_of_rewards(gamma: float) -> None:
    remaining = torch.arange(0, 60)
    expected = torch.tensor([sum_of_rewards(int(n), gamma) for n in remaining], dtype=torch.float64)
    torch.testing.assert_close(discounted_returns(remaining.double(), gamma), expected, **EXACT)


def test_discounted_returns_by_hand() -> None:
    found = discounted_returns(torch.tensor([0, 1, 2, 3], dtype=torch.float64), 0.5)
    torch.testing.assert_close(found, torch.tensor([0.0, -0.5, -0.75, -0.875], dtype=torch.float64), **EXACT)


def test_discounted_returns_of_integers_are_float32() -> None:
    assert discounted_returns(torch.tensor([3]), 0.9).dtype == torch.float32


@every_lambda
@pytest.mark.parametrize("gamma", [0.9, 0.997])
def test_lambda_returns_of_a_padded_batch_equal_the_backward_loop(gamma: float, lam: float) -> None:
    lengths, width = [1, 2, 7, 16, 17], 17
    values = random_values(len(lengths), width)
    remaining, mask = torch.zeros(len(lengths), width, dtype=torch.long), torch.zeros(len(lengths), width).bool()
    expected = torch.zeros(len(lengths), width, dtype=torch.float64)
    for row, length in enumerate(lengths):
        remaining[row, :length] = torch.arange(length, 0, -1)
        mask[row, :length] = True
        loop = backward_loop(values[row, :length], remaining[row, :length], gamma, lam)
        expected[row, :length] = torch.tensor(loop, dtype=torch.float64)
    torch.testing.assert_close(lambda_returns(values, remaining, gamma, lam, mask=mask), expected, **EXACT)


@every_lambda
def test_lambda_returns_of_a_packed_row_equal_the_backward_loop_per_segment(lam: float) -> None:
    lengths, gamma = [3, 1, 8, 1, 1, 5], 0.97
    values = random_values(sum(lengths))
    remaining = torch.cat([torch.arange(n, 0, -1) for n in lengths])
    segments = torch.repeat_interleave(torch.tensor([4, 0, 9, 1, 2, 3]), torch.tensor(lengths))
    found = lambda_returns(values, remaining, gamma, lam, segments=segments)
    parts = zip(values.split(lengths), remaining.split(lengths), strict=True)
    expected = torch.tensor([g for v, n in parts for g in backward_loop(v, n, gamma, lam)], dtype=torch.float64)
    torch.testing.assert_close(found, expected, **EXACT)


@every_lambda
def test_segments_of_cut_completions_do_not_bootstrap_from_their_neighbours(lam: float) -> None:
    # both windows end while tokens remain, so only `segments` tells where one stops
    values, gamma = random_values(6), 0.95
    remaining, segments = torch.tensor([9, 8, 7, 30, 29, 28]), torch.tensor([0, 0, 0, 1, 1, 1])
    found = lambda_returns(values, remaining, gamma, lam, segments=segments)
    expected = backward_loop(values[:3], remaining[:3], gamma, lam) + backward_loop(
        values[3:], remaining[3:], gamma, lam
    )
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), **EXACT)


@every_lambda
def test_a_truncated_window_continues_with_the_exact_return_of_its_labels(lam: float) -> None:
    values, gamma = random_values(10), 0.98
    remaining = torch.arange(40, 30, -1)
    expected = torch.tensor(backward_loop(values, remaining, gamma, lam), dtype=torch.float64)
    torch.testing.assert_close(lambda_returns(values, remaining, gamma, lam), expected, **EXACT)
    assert expected[-1].item() == pytest.approx(-(1 - gamma**31), abs=1e-12)


@every_lambda
def test_a_masked_successor_counts_as_missing(lam: float) -> None:
    values, gamma = random_values(1, 6), 0.9
    remaining = torch.arange(20, 14, -1)[None]
    mask = torch.tensor([[True, True, False, True, True, False]])
    found = lambda_returns(values, remaining, gamma, lam, mask=mask)
    expected = torch.zeros(1, 6, dtype=torch.float64)
    for start in (0, 3):
        part = slice(start, start + 2)
        loop = backward_loop(values[0, part], remaining[0, part], gamma, lam)
        expected[0, part] = torch.tensor(loop, dtype=torch.float64)
    torch.testing.assert_close(found, expected, **EXACT)


@every_lambda
def test_an_included_terminal_state_is_zero_and_its_predicted_value_is_not_used(lam: float) -> None:
    values, gamma = random_values(2, 5), 0.9
    remaining = torch.tensor([[4, 3, 2, 1, 0], [2, 1, 0, 0, 0]])
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    found = lambda_returns(values, remaining, gamma, lam, mask=mask)
    loops = [backward_loop(values[0], remaining[0], gamma, lam), backward_loop(values[1, :3], remaining[1], gamma, lam)]
    expected = torch.tensor([loops[0], [*loops[1], 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, **EXACT)
    assert found[0, 3].item() == pytest.approx(-(1 - gamma), abs=1e-12)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    lam=st.sampled_from(LAMBDAS),
    gamma=st.floats(0.5, 0.9999),
    terminal=st.booleans(),
)
def test_packing_and_padding_give_the_same_numbers(
    lengths: list[int], lam: float, gamma: float, terminal: bool
) -> None:
    labels = [torch.arange(n, -1 if terminal else 0, -1) for n in lengths]
    values = [random_values(len(n)) for n in labels]
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones(len(n), dtype=torch.bool) for n in labels], batch_first=True)
    segments = torch.repeat_interleave(torch.arange(len(labels)), torch.tensor([len(n) for n in labels]))
    packed = lambda_returns(torch.cat(values), torch.cat(labels), gamma, lam, segments=segments)
    padded = lambda_returns(pad(values, batch_first=True), pad(labels, batch_first=True), gamma, lam, mask=mask)
    torch.testing.assert_close(padded[mask], packed, **EXACT)


@pytest.mark.parametrize("gamma", [0.9, 0.99, 0.997, 0.9998])
def test_lambda_one_is_the_closed_form_whatever_the_values(gamma: float) -> None:
    remaining = torch.arange(500, 0, -1).expand(2, -1)
    found = [lambda_returns(v, remaining, gamma, 1.0) for v in (random_values(2, 500), torch.zeros(2, 500).double())]
    closed = -(1 - gamma ** remaining.double())
    torch.testing.assert_close(found[0], closed, **EXACT)
    assert torch.equal(found[0], found[1])


def test_lambda_just_below_one_comes_near_the_closed_form() -> None:
    # the doubling passes and the one expression agree where they meet
    remaining = torch.arange(300, 0, -1)
    found = lambda_returns(random_values(300), remaining, 0.99, 1.0 - 1e-13)
    torch.testing.assert_close(found, discounted_returns(remaining.double(), 0.99), rtol=0, atol=1e-9)


@every_lambda
def test_exact_values_are_a_fixed_point_of_every_lambda(lam: float) -> None:
    remaining = torch.arange(64, 0, -1)
    exact = discounted_returns(remaining.double(), 0.98)
    torch.testing.assert_close(lambda_returns(exact, remaining, 0.98, lam), exact, **EXACT)


@pytest.mark.parametrize("lam", LAMBDAS)
def test_no_gradient_flows_into_the_values(lam: float) -> None:
    values = random_values(2, 8).requires_grad_()
    found = lambda_returns(values, torch.arange(8, 0, -1).expand(2, -1), 0.9, lam)
    assert not found.requires_grad


@pytest.mark.parametrize("lam", [-0.01, 1.01, math.nan])
def test_a_lambda_outside_0_1_is_refused(lam: float) -> None:
    with pytest.raises(InputError, match=r"`lam` must lie in \[0, 1\]"):
        lambda_returns(random_values(3), torch.tensor([3, 2, 1]), 0.9, lam)


@pytest.mark.parametrize("gamma", [0.0, 1.0, -1.0, 1.5, math.nan, math.inf])
def test_a_gamma_outside_0_1_is_refused(gamma: float) -> None:
    with pytest.raises(InputError, match="`gamma` must lie strictly between 0 and 1"):
        lambda_returns(random_values(3), torch.tensor([3, 2, 1]), gamma, 0.9)


@given(lengths=st.lists(st.integers(1, 100_000), min_size=1, max_size=300))
def test_gamma_from_lengths_gives_the_99th_percentile_the_horizon_099(lengths: list[int]) -> None:
    gamma = gamma_from_lengths(lengths)
    # the smallest length that at least 99 % of the completions do not exceed
    covered = next(n for n in sorted(lengths) if sum(m <= n for m in lengths) >= 0.99 * len(lengths))
    assert 1 - gamma**covered == pytest.approx(0.99, abs=1e-9)


def test_gamma_from_lengths_by_hand() -> None:
    assert gamma_from_lengths(torch.arange(1, 101)) == pytest.approx(0.01 ** (1 / 99), rel=1e-12)
    assert gamma_from_lengths(torch.full((5, 2), 200)) == pytest.approx(0.01 ** (1 / 200), rel=1e-12)


def test_the_covered_length_of_a_gamma_is_the_length_it_was_made_from() -> None:
    for length in (1, 2, 179, 1330, 32_768, 1_000_000):
        assert covered_length(gamma_from_lengths([length])) == pytest.approx(length, rel=1e-8)


def test_gamma_from_no_lengths_is_refused() -> None:
    with pytest.raises(InputError, match="without a finished completion; give `gamma` a number"):
        gamma_from_lengths([])


def test_gamma_from_empty_completions_is_refused() -> None:
    with pytest.raises(InputError, match="needs a positive 99th percentile length, got 0"):
        gamma_from_lengths([0, 0])

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenvm.errors import InputError
from lenvm.losses import AbstractLoss, Huber, RelativeError, SquaredError, TokenMean, TrajectoryMean

LOSSES = [SquaredError(), Huber(), Huber(delta=0.25), RelativeError(), RelativeError(floor=1.0)]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (SquaredError(), [0.0, 0.01, 9.0, 0.25]),
        (Huber(delta=1.0), [0.0, 0.005, 2.5, 0.125]),
        (Huber(delta=0.2), [0.0, 0.005, 0.58, 0.08]),
        (RelativeError(floor=0.01), [0.0, 0.0625, 2.25, 2500.0]),
        (RelativeError(floor=1.0), [0.0, 0.01, 2.25, 0.25]),
    ],
    ids=str,
)
def test_losses_by_hand(loss: AbstractLoss, expected: list[float]) -> None:
    prediction = torch.tensor([-0.5, -0.5, 5.0, -0.5], dtype=torch.float64)
    target = torch.tensor([-0.5, -0.4, 2.0, 0.0], dtype=torch.float64)
    found = loss(prediction, target)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@given(error=st.floats(1e-6, 50), target=st.floats(-1, 1), sign=st.sampled_from([-1, 1]))
def test_a_loss_is_zero_at_the_target_and_positive_elsewhere(
    loss: AbstractLoss, error: float, target: float, sign: int
) -> None:
    labels = torch.tensor([target, target], dtype=torch.float64)
    here = loss(labels + torch.tensor([0.0, sign * error], dtype=torch.float64), labels)
    assert here[0] == 0
    assert here[1] > 0


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_the_gradient_points_away_from_the_target_and_only_to_the_prediction(loss: AbstractLoss) -> None:
    prediction = torch.tensor([-0.9, -0.1, 30.0], requires_grad=True)
    target = torch.tensor([-0.5, -0.5, -0.5])
    loss(prediction, target).sum().backward()
    assert torch.equal(prediction.grad.sign(), (prediction - target).sign())


def test_huber_is_half_the_squared_error_inside_delta_and_grows_linearly_outside() -> None:
    error = torch.linspace(-0.5, 0.5, 11)
    zero = torch.zeros_like(error)
    torch.testing.assert_close(Huber(delta=0.5)(error, zero), 0.5 * SquaredError()(error, zero))
    outside = Huber(delta=0.5)(torch.tensor([2.0, 3.0, 4.0]), torch.zeros(3))
    torch.testing.assert_close(outside.diff(), torch.tensor([0.5, 0.5]))


def test_relative_error_does_not_change_with_the_unit_of_length() -> None:
    prediction, target = torch.tensor([3.0, 50.0]), torch.tensor([2.0, 100.0])
    loss = RelativeError(floor=1e-6)
    torch.testing.assert_close(loss(prediction, target), loss(prediction * 1000, target * 1000))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_delta_and_floor_have_to_be_positive(bad: float) -> None:
    with pytest.raises(InputError, match="`delta` must be positive, got"):
        Huber(delta=bad)
    with pytest.raises(InputError, match="`floor` must be positive, got"):
        RelativeError(floor=bad)


def test_token_mean_weighs_every_state_with_one() -> None:
    weights = TokenMean()(torch.tensor([0, 0, 2, 1]))
    assert weights.dtype == torch.float32
    assert weights.tolist() == [1.0] * 4


def test_trajectory_mean_by_hand() -> None:
    weights = TrajectoryMean()(torch.tensor([0, 0, 0, 0, 1, 2, 2]))
    assert weights.dtype == torch.float32
    assert weights.tolist() == [0.25, 0.25, 0.25, 0.25, 1.0, 0.5, 0.5]


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=8), gap=st.integers(0, 3))
def test_trajectory_mean_weights_sum_to_the_number_of_trajectories(lengths: list[int], gap: int) -> None:
    # rows without a supervised state leave gaps in the numbering
    trajectories = torch.repeat_interleave(torch.arange(len(lengths)) * (gap + 1), torch.tensor(lengths))
    weights = TrajectoryMean()(trajectories)
    assert weights.sum().item() == pytest.approx(len(lengths), rel=1e-5)
    sums = torch.zeros(int(trajectories.max()) + 1).index_add_(0, trajectories, weights)
    torch.testing.assert_close(sums[:: gap + 1], torch.ones(len(lengths)))


def test_the_two_weightings_agree_exactly_when_completions_are_equally_long() -> None:
    errors, equal, unequal = torch.rand(12), torch.arange(12) // 4, torch.tensor([0] * 10 + [1, 2])

    def mean(weights: torch.Tensor) -> float:
        return ((weights * errors).sum() / weights.sum()).item()

    assert mean(TokenMean()(equal)) == pytest.approx(mean(TrajectoryMean()(equal)), rel=1e-6)
    assert mean(TokenMean()(unequal)) != pytest.approx(mean(TrajectoryMean()(unequal)), rel=1e-2)

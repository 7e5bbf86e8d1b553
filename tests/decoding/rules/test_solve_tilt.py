from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from lenvm.decoding.rules.solve import solve_tilt, tilted


def expected(log_probs: Tensor, horizons: Tensor, mask: Tensor, beta: Tensor) -> Tensor:
    probs = tilted(log_probs, horizons, mask, beta).exp()
    return torch.where(mask, probs * horizons, 0.0).sum(-1)


def batch(rows: list[list[tuple[float, float]]]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of (log-probability, horizon), padded; what is outside the mask is nonsense on purpose."""
    width = max(map(len, rows)) + 1
    log_probs = torch.full((len(rows), width), -math.inf, dtype=torch.float64)
    horizons, mask = torch.full_like(log_probs, 0.777), torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        log_probs[i, : len(row)] = torch.tensor([p for p, _ in row], dtype=torch.float64).log_softmax(-1)
        horizons[i, : len(row)] = torch.tensor([u for _, u in row], dtype=torch.float64)
        mask[i, : len(row)] = True
    return log_probs, horizons, mask


def reachable(horizons: Tensor, mask: Tensor, share: float) -> Tensor:
    low = horizons.masked_fill(~mask, math.inf).amin(-1)
    high = horizons.masked_fill(~mask, -math.inf).amax(-1)
    return low + share * (high - low)


log_probabilities = st.floats(-30, 0)
horizon_values = st.floats(0, 0.999)
tiny = st.builds(lambda base, off: base + 1e-6 * off, st.just(0.5), st.floats(0, 1))
mixed = st.one_of(horizon_values, st.floats(-9, -1).map(lambda x: 10**x), st.floats(-9, -1).map(lambda x: 1 - 10**x))
row = st.one_of(
    *(
        st.lists(st.tuples(log_probabilities, values), min_size=2, max_size=15)
        for values in (horizon_values, tiny, mixed)
    )
)
shares = st.one_of(st.floats(1e-6, 1 - 1e-6), st.floats(-6, -0.5).map(lambda x: 10**x)).flatmap(
    lambda s: st.sampled_from([s, 1 - s])
)


@settings(max_examples=200)
@given(rows=st.lists(row, min_size=1, max_size=12), share=shares)
def test_the_expectation_is_met_wherever_the_target_lies_inside(
    rows: list[list[tuple[float, float]]], share: float
) -> None:
    log_probs, horizons, mask = batch(rows)
    target = reachable(horizons, mask, share)
    found = expected(log_probs, horizons, mask, solve_tilt(log_probs, horizons, mask, target))
    assert (found - target).abs().max() <= 1e-6


@given(row=st.lists(st.tuples(st.floats(-12, 0), horizon_values), min_size=2, max_size=10), share=st.floats(0.02, 0.98))
def test_beta_is_the_one_that_a_root_finder_finds(row: list[tuple[float, float]], share: float) -> None:
    values = [u for _, u in row]
    if max(values) - min(values) < 1e-2:
        return
    log_probs, horizons, mask = batch([row])
    target = reachable(horizons, mask, share)

    def missing(beta: float) -> float:
        weights = [math.exp(p + beta * (u - (max(values) if beta > 0 else min(values)))) for p, u in row]
        return sum(w * u for w, u in zip(weights, values, strict=True)) / sum(weights) - target.item()

    beta = solve_tilt(log_probs, horizons, mask, target).item()
    bound = 1.0
    while missing(bound) < 0 or missing(-bound) > 0:
        bound *= 2
    root = brentq(missing, -bound, bound, xtol=1e-12)
    # where the expectation hardly depends on beta, so does what can be said of it
    slope = (missing(root + 1e-4) - missing(root - 1e-4)) / 2e-4
    assert beta == pytest.approx(root, abs=1e-6 + 1e-9 / slope)


def test_two_candidates_by_hand() -> None:
    log_probs, horizons, mask = batch([[(math.log(0.9), 0.2), (math.log(0.1), 0.6)]])
    # odds 1 : 1 from 9 : 1 over a range of 0.4
    beta = solve_tilt(log_probs, horizons, mask, torch.tensor([0.4], dtype=torch.float64))
    assert beta.item() == pytest.approx(math.log(9) / 0.4, rel=1e-9)


def test_more_needs_a_positive_and_less_a_negative_beta() -> None:
    log_probs, horizons, mask = batch([[(-1.0, 0.1), (-2.0, 0.5), (-1.5, 0.8)]] * 3)
    mean = torch.where(mask, log_probs.exp() * horizons, 0.0).sum(-1)
    beta = solve_tilt(log_probs, horizons, mask, mean + torch.tensor([-0.1, 0.0, 0.1], dtype=torch.float64))
    assert beta[0] < -0.1
    assert beta[1].abs() < 1e-9
    assert beta[2] > 0.1


@pytest.mark.parametrize(("target", "column"), [(-1.0, 0), (0.1, 0), (0.8, 2), (0.95, 2)])
def test_beyond_the_candidates_all_probability_is_on_the_end(target: float, column: int) -> None:
    log_probs, horizons, mask = batch([[(-1.0, 0.1), (-2.0, 0.5), (-1.5, 0.8)]])
    beta = solve_tilt(log_probs, horizons, mask, torch.tensor([target], dtype=torch.float64))
    probs = tilted(log_probs, horizons, mask, beta).exp()
    assert probs[0].tolist() == [float(i == column) for i in range(4)]


def test_at_an_end_equal_candidates_share_as_before() -> None:
    log_probs, horizons, mask = batch([[(math.log(0.6), 0.3), (math.log(0.2), 0.3), (math.log(0.2), 0.9)]])
    probs = tilted(log_probs, horizons, mask, torch.tensor([-math.inf], dtype=torch.float64)).exp()
    torch.testing.assert_close(probs[0, :3], torch.tensor([0.75, 0.25, 0.0], dtype=torch.float64))


def test_equal_horizons_leave_the_distribution_alone() -> None:
    log_probs, horizons, mask = batch([[(-1.0, 0.4), (-2.0, 0.4)], [(0.0, 0.4)]])
    for target in (0.3, 0.4, 0.5):
        goal = torch.full((2,), target, dtype=torch.float64)
        new = tilted(log_probs, horizons, mask, solve_tilt(log_probs, horizons, mask, goal))
        torch.testing.assert_close(new, log_probs)


def test_beta_stays_within_its_bound() -> None:
    log_probs, horizons, mask = batch([[(-1.0, 0.1), (-2.0, 0.15), (-15.0, 0.8)]] * 3)
    target = torch.tensor([0.0, 0.11, 0.7], dtype=torch.float64)
    free, bound = solve_tilt(log_probs, horizons, mask, target), solve_tilt(log_probs, horizons, mask, target, 10.0)
    torch.testing.assert_close(bound, free.clamp(-10, 10))
    assert bound.tolist()[0] == -10
    assert bound.tolist()[2] == 10
    assert abs(bound.tolist()[1]) < 10


def test_float32_comes_close() -> None:
    log_probs, horizons, mask = batch([[(-1.0, 0.1), (-2.0, 0.5), (-1.5, 0.8)]] * 9)
    target = torch.linspace(0.15, 0.75, 9)
    beta = solve_tilt(log_probs.float(), horizons.float(), mask, target)
    assert beta.dtype == torch.float32
    found = expected(log_probs, horizons, mask, beta.double())
    torch.testing.assert_close(found, target.double(), rtol=0, atol=1e-4)


def test_a_row_gets_in_any_batch_what_it_gets_alone() -> None:
    torch.manual_seed(3)
    log_probs = (10 * torch.randn(64, 9, dtype=torch.float64)).log_softmax(-1)
    horizons, mask = torch.rand(64, 9, dtype=torch.float64), torch.ones(64, 9, dtype=torch.bool)
    target = reachable(horizons, mask, 0.3)
    alone = [solve_tilt(log_probs[i, None], horizons[i, None], mask[i, None], target[i, None]) for i in range(64)]
    torch.testing.assert_close(solve_tilt(log_probs, horizons, mask, target), torch.cat(alone), rtol=1e-9, atol=1e-9)

"""What each rule does to single steps and to whole completions, on a chain whose lengths are known exactly."""

from __future__ import annotations

import itertools
import math

import pytest
import scipy.stats
import torch
from markov_chain import MarkovChain
from torch import Tensor

from lenvm.decoding.rules import AbstractRule, AtLeast, AtMost, EqualTo, MatchHorizon, ScaleHorizon, Tilt

N = 20


def expected(step: Tensor, chain: MarkovChain) -> Tensor:
    """Expected horizon after the next token, from each state."""
    return step @ chain.horizons


def divergence(new: Tensor, old: Tensor) -> Tensor:
    """KL(new || old) of each row."""
    return torch.where(new > 0, new * (new / old).log(), 0.0).sum(-1)


def horizon(chain: MarkovChain, tokens: float) -> float:
    return 1 - chain.gamma**tokens


@pytest.mark.parametrize("beta", [-7.0, -0.5, 3.0])
def test_tilt_multiplies_by_the_exponential_of_the_horizon(chain: MarkovChain, beta: float) -> None:
    found = chain.steered_step(Tilt(beta=beta), 3)
    for state in range(chain.num_states):
        weights = [
            p * math.exp(beta * u) for p, u in zip(chain.step[state].tolist(), chain.horizons.tolist(), strict=True)
        ]
        assert found[state].tolist() == pytest.approx([w / sum(weights) for w in weights], abs=1e-12)


def test_a_larger_beta_makes_longer_completions(chain: MarkovChain) -> None:
    betas = [-20.0, -10.0, -5.0, -2.0, -0.5, 0.0, 0.5, 2.0, 5.0]
    means = [chain.mean_length(chain.steered_step(Tilt(beta=beta), 0)) for beta in betas]
    assert all(longer > shorter * 1.01 for shorter, longer in itertools.pairwise(means))
    assert means[betas.index(0.0)] == pytest.approx(chain.mean_length(chain.step), rel=1e-12)


@pytest.mark.parametrize("generated", [0, 7, 15, 19, 40])
def test_match_horizon_expects_the_tokens_left_or_takes_the_nearest_end(chain: MarkovChain, generated: int) -> None:
    target = horizon(chain, max(N - generated - 1, 0))
    new = chain.steered_step(MatchHorizon(n=N), generated)
    offered = chain.horizons.expand_as(chain.step)
    low = offered.masked_fill(chain.step == 0, math.inf).amin(-1)
    high = offered.masked_fill(chain.step == 0, -math.inf).amax(-1)
    nearest = torch.minimum(torch.maximum(torch.tensor(target, dtype=torch.float64), low), high)
    torch.testing.assert_close(expected(new, chain), nearest, rtol=0, atol=1e-8)


def test_match_horizon_is_the_closest_distribution_with_its_expectation(chain: MarkovChain) -> None:
    state, generated = 0, 15
    target = horizon(chain, N - generated - 1)
    new, old = chain.steered_step(MatchHorizon(n=N), generated)[state], chain.step[state]
    assert expected(new, chain) == pytest.approx(target, abs=1e-9)
    least = divergence(new, old)
    assert least > 1e-3
    keeps = torch.stack([torch.ones_like(new), chain.horizons])  # what a change may not change
    for _ in range(20):
        change = torch.randn_like(new)
        change = change - keeps.T @ torch.linalg.solve(keeps @ keeps.T, keeps @ change)
        other = new + 0.02 * change / change.abs().max()
        assert (other > 0).all()
        assert expected(other, chain) == pytest.approx(target, abs=1e-9)
        assert divergence(other, old) > least


@pytest.mark.parametrize("how", ["mul", "linear", "exp", "length_mul"])
@pytest.mark.parametrize("scale", [0.0, 0.4, 0.9, 1.3, 1.9])
def test_scale_horizon_meets_the_published_expectation(chain: MarkovChain, how: str, scale: float) -> None:
    new = chain.steered_step(ScaleHorizon(how=how, scale=scale), 0)  # type: ignore[arg-type]
    for state in range(chain.num_states):
        offered = [u for p, u in zip(chain.step[state].tolist(), chain.horizons.tolist(), strict=True) if p > 0]
        low, high, mu = min(offered), max(offered), (chain.step[state] @ chain.horizons).item()
        place = (mu - low) / (high - low)
        target = {
            "mul": mu * scale,
            "linear": mu + (scale - 1) * (high - mu) if scale >= 1 else mu - (1 - scale) * (mu - low),
            "exp": low + (1 - (1 - place) ** scale) * (high - low),
            "length_mul": 1 - (1 - mu) ** scale,
        }[how]
        found = expected(new, chain)[state].item()
        assert found == pytest.approx(min(max(target, low), high), abs=2e-6)


def test_length_mul_scales_the_expected_length(chain: MarkovChain) -> None:
    def length(step: Tensor) -> Tensor:
        return torch.log1p(-expected(step, chain)) / math.log(chain.gamma)

    new = chain.steered_step(ScaleHorizon(how="length_mul", scale=1.1), 0)
    torch.testing.assert_close(length(new), 1.1 * length(chain.step), rtol=1e-6, atol=0)


@pytest.mark.parametrize("compare", ["value", "length"])
def test_hard_equal_to_is_the_published_argmin(compare: str) -> None:
    torch.manual_seed(5)
    gamma, n, rows = 0.9, 12, 60
    log_probs = torch.randn(rows, 8, dtype=torch.float64).log_softmax(-1)
    lengths = torch.randint(1, 16, (rows, 8))  # whole lengths, so that many candidates tie
    lengths[:, 2] = torch.randint(0, 2, (rows,)) * lengths[:, 2]
    mask = torch.rand(rows, 8) < 0.8
    mask[:, 0] = True
    log_probs = log_probs.masked_fill(~mask, -math.inf).log_softmax(-1)
    horizons = 1 - gamma ** lengths.double()
    generated = torch.arange(rows) % 15
    new = EqualTo(n=n, mode="hard", compare=compare)(log_probs, horizons, mask, generated, gamma)  # type: ignore[arg-type]
    ties = 0
    for row in range(rows):
        left = max(n - (int(generated[row]) + 1), 0)

        def distance(column: int, row: int = row, left: int = left) -> float:
            if compare == "length":
                return float(abs(int(lengths[row, column]) - left))
            return abs(horizons[row, column].item() - (1 - gamma**left))

        candidates = [c for c in range(8) if mask[row, c]]
        least = min(map(distance, candidates))
        best = [c for c in candidates if distance(c) <= least + 1e-12]
        ties += len(best) > 1
        chosen = max(best, key=lambda c, row=row: log_probs[row, c].item())
        assert new[row].exp().tolist() == [float(c == chosen) for c in range(8)]
    assert ties > 5


def test_value_and_length_disagree_on_what_is_nearest() -> None:
    # 6 tokens left; 4 and 9 are two and three away, but far ahead horizons lie closer together
    gamma, mask = 0.7, torch.ones(1, 2, dtype=torch.bool)
    log_probs = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    horizons = 1 - gamma ** torch.tensor([[4.0, 9.0]], dtype=torch.float64)
    arguments = (log_probs, horizons, mask, torch.tensor([0]), gamma)
    assert EqualTo(n=7, mode="hard", compare="value")(*arguments).argmax() == 1
    assert EqualTo(n=7, mode="hard", compare="length")(*arguments).argmax() == 0


def test_equal_candidates_go_to_the_more_probable_then_the_first() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    log_probs = torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.4, 0.4]], dtype=torch.float64).log()
    horizons = torch.full((2, 3), 0.5, dtype=torch.float64)
    for rule in (EqualTo(n=9, mode="hard"), AtMost(n=9, mode="hard"), AtLeast(n=9, mode="hard")):
        assert rule(log_probs, horizons, mask, torch.tensor([0, 0]), 0.9).argmax(-1).tolist() == [1, 1]


@pytest.mark.parametrize("mode", ["smooth", "hard"])
def test_equal_to_lands_near_its_target_far_more_often_than_chance(chain: MarkovChain, mode: str) -> None:
    plain, steered = chain.lengths(None, 400), chain.lengths(EqualTo(n=N, mode=mode), 400)  # type: ignore[arg-type]
    assert steered.sum().item() == pytest.approx(1, abs=1e-6)
    assert plain[N - 2 : N + 3].sum() < 0.15
    assert steered[N - 2 : N + 3].sum() > 0.75


def test_smooth_equal_to_is_closer_to_the_generator_than_the_published_rule(chain: MarkovChain) -> None:
    def cost(rule: AbstractRule) -> float:
        return sum(divergence(chain.steered_step(rule, t), chain.step).mean().item() for t in range(N))

    assert cost(EqualTo(n=N)) < 0.6 * cost(EqualTo(n=N, mode="hard"))


@pytest.mark.parametrize("generated", [0, 7, N - 2, N - 1, N, 300])
def test_smooth_equal_to_is_the_generator_times_the_chance_to_land(chain: MarkovChain, generated: int) -> None:
    spread, near, left = 0.3, 2.0, max(N - generated - 1, 0)
    lengths = torch.log1p(-chain.horizons) / math.log(chain.gamma)
    distance = (torch.log((lengths + near) / (left + near)) / spread).abs()
    normal_part = torch.exp(-0.5 * distance**2)
    chance = torch.where(distance < 1.5, normal_part, torch.exp(-1.5 * distance + 1.125))
    chance[chain.num_states] = normal_part[chain.num_states]  # the end is certain: no tail
    weights = chain.step * chance
    new = chain.steered_step(EqualTo(n=N, spread=spread, near=near), generated)
    torch.testing.assert_close(new, weights / weights.sum(-1, keepdim=True))


def test_smooth_equal_to_takes_the_end_on_target_and_hardly_before(chain: MarkovChain) -> None:
    end = chain.num_states
    offered = chain.step[:, end] > 0
    assert (chain.steered_step(EqualTo(n=N), 3)[:, end] < 1e-6).all()
    assert (chain.steered_step(EqualTo(n=N), N - 1)[offered, end] > chain.step[offered, end]).all()


def test_a_token_that_nearly_ends_is_no_end() -> None:
    # one token left after the first, none after the last
    log_probs, gamma = torch.tensor([[0.6, 0.2, 0.2]], dtype=torch.float64).log(), 0.999
    horizons = 1 - gamma ** torch.tensor([[1.0, 30.0, 0.0]], dtype=torch.float64)
    mask, generated = torch.ones(1, 3, dtype=torch.bool), torch.tensor([5])
    new = AtLeast(n=N)(log_probs, horizons, mask, generated, gamma).exp()
    assert new[0, 2] == 0
    assert new[0, 0] > 0


def normal(z: Tensor) -> Tensor:
    """The normal distribution function, by scipy."""
    return torch.from_numpy(scipy.stats.norm.cdf(z.numpy()))


def shortfall(chain: MarkovChain, generated: int, spread: float, near: float) -> Tensor:
    lengths = torch.log1p(-chain.horizons) / math.log(chain.gamma)
    return torch.log((max(N - generated - 1, 0) + near) / (lengths + near)) / spread


@pytest.mark.parametrize(("generated", "num_safe"), [(0, 4), (11, 0), (18, 0), (30, 0)])
def test_minimal_at_most_is_the_generator_given_the_limit(chain: MarkovChain, generated: int, num_safe: int) -> None:
    rule = AtMost(n=N, spread=0.3, near=2.0)
    chance = normal(shortfall(chain, generated, 0.3, 2.0))
    chance[chain.num_states] = 1.0
    weights = chain.step * chance
    safe = weights.sum(-1) >= 0.99
    log_new = rule(*chain.offer(), torch.full((chain.num_states,), generated), chain.gamma)
    assert torch.equal(log_new[safe], chain.step.log()[safe])
    assert safe.sum() == num_safe
    expected_step = weights / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(log_new.exp()[~safe], expected_step[~safe])


@pytest.mark.parametrize("mode", ["minimal", "hard"])
def test_at_most_keeps_the_limit_more_often(chain: MarkovChain, mode: str) -> None:
    limit = 8
    beyond = [1 - chain.lengths(rule, limit).sum().item() for rule in (None, AtMost(n=limit, mode=mode))]  # type: ignore[arg-type]
    assert beyond[0] > 0.3
    assert beyond[1] < 0.02


def test_minimal_at_most_leaves_more_of_the_generator_than_the_published_rule(chain: MarkovChain) -> None:
    kept = [chain.lengths(rule, 12) for rule in (None, AtMost(n=12), AtMost(n=12, mode="hard"))]
    means = [((lengths * torch.arange(13)).sum() / lengths.sum()).item() for lengths in kept]
    assert means[1] > 0.8 * means[0]
    assert means[2] < 0.5 * means[0]


@pytest.mark.parametrize("mode", ["minimal", "hard"])
@pytest.mark.parametrize("n", [2, 12])
def test_at_least_never_ends_early(chain: MarkovChain, mode: str, n: int) -> None:
    lengths = chain.lengths(AtLeast(n=n, mode=mode), 600)  # type: ignore[arg-type]
    assert lengths[:n].sum() == 0
    assert lengths.sum().item() == pytest.approx(1, abs=1e-6)
    assert chain.lengths(None, n - 1).sum() > 0.05


def test_at_least_is_the_generator_again_once_n_are_written(chain: MarkovChain) -> None:
    for mode in ("minimal", "hard"):
        rule = AtLeast(n=N, mode=mode)  # type: ignore[arg-type]
        for generated in (N - 1, N, 3 * N):
            written = torch.full((chain.num_states,), generated)
            assert torch.equal(rule(*chain.offer(), written, chain.gamma), chain.step.log())
            assert not rule.wants(chain.step.log(), chain.step > 0, written).any()
        assert rule.wants(chain.step.log(), chain.step > 0, torch.full((chain.num_states,), N - 2)).all()


@pytest.mark.parametrize("generated", [0, 9, N - 2])
def test_minimal_at_least_is_the_generator_given_that_it_goes_on(chain: MarkovChain, generated: int) -> None:
    rule = AtLeast(n=N, spread=0.3, near=2.0)
    chance = normal(-shortfall(chain, generated, 0.3, 2.0))
    chance[chain.num_states] = 0.0
    weights = chain.step * chance
    new = chain.steered_step(rule, generated)
    safe = weights.sum(-1) >= 0.99
    torch.testing.assert_close(new[~safe], (weights / weights.sum(-1, keepdim=True))[~safe])
    assert (new[:, chain.num_states] == 0).all()


def test_minimal_at_least_leaves_alone_what_will_reach_its_target(chain: MarkovChain) -> None:
    rule, generated = AtLeast(n=10, spread=0.05), torch.full((chain.num_states,), 8)
    log_new = rule(*chain.offer(), generated, chain.gamma)
    assert torch.equal(log_new[3], chain.step[3].log())  # no end is offered here


def test_less_trust_in_the_value_model_makes_a_constraint_bite_earlier(chain: MarkovChain) -> None:
    trusting, careful = (AtMost(n=14, spread=spread) for spread in (0.1, 0.5))
    moved = [divergence(chain.steered_step(rule, 2), chain.step).sum().item() for rule in (trusting, careful)]
    assert moved[1] > moved[0]

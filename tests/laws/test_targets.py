from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import lenvm.targets
from lenvm.class_path import build, describe
from lenvm.errors import InputError
from lenvm.targets import AbstractLengthTarget, DiscountedReturn, LengthSummary, LogLength, NormalizedLength, RawLength

GAMMAS = (0.9, 0.99, 0.997, 0.9998)
LONGEST = 32768
ALL_LENGTHS = torch.arange(1, LONGEST + 1)


def discovered() -> list[type[AbstractLengthTarget]]:
    for module in pkgutil.iter_modules(lenvm.targets.__path__, "lenvm.targets."):
        importlib.import_module(module.name)

    def below(cls: type) -> list[type]:
        return [found for sub in cls.__subclasses__() for found in (sub, *below(sub))]

    return [cls for cls in below(AbstractLengthTarget) if not inspect.isabstract(cls)]


def calibrated(cls: type[AbstractLengthTarget], gamma: float = 0.997) -> AbstractLengthTarget:
    return cls().calibrated(LengthSummary(gamma=gamma, max_length=LONGEST))


TARGETS = [pytest.param(calibrated(cls), id=cls.__name__) for cls in discovered()]
TARGETS += [pytest.param(DiscountedReturn(gamma=g), id=f"DiscountedReturn-{g}") for g in GAMMAS]
laws = pytest.mark.parametrize("target", TARGETS)


def test_discovery_finds_the_four_targets_of_the_contract() -> None:
    assert {RawLength, NormalizedLength, LogLength, DiscountedReturn} <= set(discovered())


@laws
def test_encode_is_monotone_in_remaining(target: AbstractLengthTarget) -> None:
    # as far as float64 can tell gamma**n from gamma**(n + 1) next to 1
    encoded = target.encode(torch.arange(0, 200, dtype=torch.float64))
    steps = encoded.diff()
    assert (steps > 0).all() or (steps < 0).all()
    assert encoded.dtype == torch.float64


@laws
def test_the_terminal_state_is_zero_in_target_space(target: AbstractLengthTarget) -> None:
    assert target.encode(torch.tensor([0])).item() == 0.0
    assert target.predict(target.logits(torch.tensor([0]))).item() == 0.0
    assert target.decode(target.logits(torch.tensor([0]))).item() == 0.0


@laws
def test_decode_inverts_logits_for_every_length_in_float32(target: AbstractLengthTarget) -> None:
    decoded = target.decode(target.logits(ALL_LENGTHS))
    assert decoded.dtype == torch.float32
    # near 32,768 neighbouring float32 logits of a logarithm are 0.03 tokens apart
    tolerance = 0.05 if isinstance(target, LogLength) else 0.01
    torch.testing.assert_close(decoded, ALL_LENGTHS.float(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_discounted_return_decodes_bfloat16_logits_to_two_percent(gamma: float) -> None:
    target = DiscountedReturn(gamma=gamma)
    decoded = target.decode(target.logits(ALL_LENGTHS).to(torch.bfloat16))
    torch.testing.assert_close(decoded, ALL_LENGTHS.float(), rtol=0.02, atol=0)


@pytest.mark.parametrize("gamma", GAMMAS[1:])
def test_the_way_over_a_value_in_float32_would_not_hold_what_decode_promises(gamma: float) -> None:
    # why `decode` takes logits: with this the promise above would break, so the law above is no empty one
    value = DiscountedReturn(gamma=gamma).encode(ALL_LENGTHS)
    naive = torch.log1p(value) / math.log(gamma)
    assert not torch.allclose(naive, ALL_LENGTHS.float(), rtol=0, atol=0.01)


@laws
def test_predict_of_logits_is_encode(target: AbstractLengthTarget) -> None:
    torch.testing.assert_close(target.predict(target.logits(ALL_LENGTHS)), target.encode(ALL_LENGTHS))


@laws
@given(n=st.floats(0.01, LONGEST))
def test_decode_inverts_logits_for_fractions_of_tokens_in_float64(target: AbstractLengthTarget, n: float) -> None:
    remaining = torch.tensor(n, dtype=torch.float64)
    assert target.decode(target.logits(remaining)).item() == pytest.approx(n, rel=1e-8)


@given(gamma=st.floats(0.5, 0.99999), n=st.integers(1, LONGEST))
def test_discounted_return_inverts_for_every_gamma(gamma: float, n: int) -> None:
    target = DiscountedReturn(gamma=gamma)
    assert target.decode(target.logits(torch.tensor(n))).item() == pytest.approx(n, abs=0.01)
    assert target.predict(target.logits(torch.tensor(n))).item() == pytest.approx(-(1 - gamma**n), abs=1e-6)


@given(z=st.floats(-30, 30))
def test_discounted_return_logits_invert_decode(z: float) -> None:
    target = DiscountedReturn(gamma=0.99)
    logit = torch.tensor(z, dtype=torch.float64)
    assert target.logits(target.decode(logit)).item() == pytest.approx(z, abs=1e-6)


@laws
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_horizon_lies_in_0_1_and_grows_with_length(target: AbstractLengthTarget, dtype: torch.dtype) -> None:
    logits = torch.linspace(-60, 60, 481).to(dtype)
    for gamma in GAMMAS:
        horizon = target.horizon(logits, gamma)
        assert ((horizon >= 0) & (horizon <= 1)).all()
        assert (horizon.diff() >= 0).all()
        assert horizon[-1] > horizon[0]


@laws
@pytest.mark.parametrize("gamma", GAMMAS)
def test_horizon_is_one_minus_gamma_to_the_remaining(target: AbstractLengthTarget, gamma: float) -> None:
    n = torch.tensor([1.0, 2.0, 10.0, 100.0, 1000.0], dtype=torch.float64)
    torch.testing.assert_close(target.horizon(target.logits(n), gamma), 1 - gamma**n, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_discounted_return_horizon_at_its_own_gamma_is_the_sigmoid(gamma: float) -> None:
    z = torch.linspace(-15, 15, 301)
    torch.testing.assert_close(DiscountedReturn(gamma=gamma).horizon(z, gamma), torch.sigmoid(z), rtol=1e-5, atol=1e-7)


@laws
def test_gradients_of_predictions_are_finite_however_wild_the_logits(target: AbstractLengthTarget) -> None:
    logits = torch.tensor([-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4], requires_grad=True)
    target.predict(logits).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[3] != 0


@laws
def test_gradients_of_decoded_lengths_are_finite_and_have_the_sign_of_length(target: AbstractLengthTarget) -> None:
    logits = target.logits(torch.tensor([1, 2, 30, 500, 8000])).requires_grad_()
    target.decode(logits).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad > 0).all()


@laws
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
def test_every_map_keeps_the_shape(target: AbstractLengthTarget, shape: tuple[int, ...]) -> None:
    n, z = torch.ones(shape, dtype=torch.long), torch.zeros(shape)
    maps: list[Tensor] = [target.encode(n), target.logits(n), target.predict(z), target.decode(z)]
    assert [m.shape for m in [*maps, target.horizon(z, 0.9)]] == [torch.Size(shape)] * 5


@laws
def test_regression_target_is_encode_without_bootstrapping(target: AbstractLengthTarget) -> None:
    remaining, trajectories = torch.tensor([3, 2, 1, 2, 1, 0]), torch.tensor([0, 0, 0, 1, 1, 1])
    found = target.regression_target(torch.zeros(6), remaining, trajectories)
    torch.testing.assert_close(found, target.encode(remaining), rtol=0, atol=0)


@pytest.mark.parametrize("lam", [0.0, 0.7])
def test_bootstrapped_targets_of_a_completion_do_not_depend_on_its_neighbours_in_the_batch(lam: float) -> None:
    # windows that end while tokens remain, as clipping on the right leaves them
    target, predictions = DiscountedReturn(gamma=0.9, lam=lam), -torch.rand(7)
    remaining, trajectories = torch.tensor([9, 8, 7, 6, 30, 29, 28]), torch.tensor([0, 0, 0, 0, 2, 2, 2])
    together = target.regression_target(predictions, remaining, trajectories)
    parts = [slice(0, 4), slice(4, 7)]
    alone = [target.regression_target(predictions[p], remaining[p], trajectories[p]) for p in parts]
    torch.testing.assert_close(together, torch.cat(alone))
    assert not torch.allclose(together, target.encode(remaining), rtol=1e-2)


@laws
def test_a_target_round_trips_through_its_class_path(target: AbstractLengthTarget) -> None:
    description = describe(target, vars(target))
    assert build(description, AbstractLengthTarget) == target  # type: ignore[type-abstract]


def test_calibrated_fills_what_was_left_open_and_leaves_what_was_given() -> None:
    summary = LengthSummary(gamma=0.97, max_length=321)
    assert DiscountedReturn().calibrated(summary) == DiscountedReturn(gamma=0.97)
    assert DiscountedReturn(lam=0.9).calibrated(summary) == DiscountedReturn(gamma=0.97, lam=0.9)
    assert DiscountedReturn(gamma=0.9).calibrated(summary) == DiscountedReturn(gamma=0.9)
    assert NormalizedLength().calibrated(summary) == NormalizedLength(max_length=321)
    assert NormalizedLength(max_length=50).calibrated(summary) == NormalizedLength(max_length=50)
    assert RawLength().calibrated(summary) == RawLength()
    assert LogLength().calibrated(summary) == LogLength()


def test_only_a_discounted_target_has_a_gamma_of_its_own() -> None:
    assert DiscountedReturn(gamma=0.9).reference_gamma == 0.9
    assert DiscountedReturn().reference_gamma is None
    assert [t.reference_gamma for t in (RawLength(), LogLength(), NormalizedLength(max_length=9))] == [None] * 3


@pytest.mark.parametrize("gamma", [0, 1, 0.0, 1.0, -1, 1.5, math.nan, math.inf, -math.inf, "0.9"])
def test_a_gamma_outside_0_1_is_refused(gamma: Any) -> None:
    with pytest.raises(InputError, match=r"`gamma` must lie strictly between 0 and 1, got .*leave it out"):
        DiscountedReturn(gamma=gamma)


@pytest.mark.parametrize("lam", [-0.1, 1.1, math.nan])
def test_a_lambda_outside_0_1_is_refused(lam: float) -> None:
    with pytest.raises(InputError, match=r"`lam` must lie in \[0, 1\], got"):
        DiscountedReturn(gamma=0.9, lam=lam)


@pytest.mark.parametrize("max_length", [0, -5, math.nan])
def test_a_longest_length_that_is_not_positive_is_refused(max_length: float) -> None:
    with pytest.raises(InputError, match="`max_length` must be positive, got"):
        NormalizedLength(max_length=max_length)


@pytest.mark.parametrize(
    ("target", "name"), [(DiscountedReturn(), "gamma"), (NormalizedLength(), "max_length")], ids=["gamma", "max_length"]
)
def test_a_target_that_is_still_open_says_what_it_lacks(target: AbstractLengthTarget, name: str) -> None:
    for use in (target.encode, target.decode, target.logits):
        with pytest.raises(InputError, match=f"has no `{name}` yet"):
            use(torch.tensor([3.0]))

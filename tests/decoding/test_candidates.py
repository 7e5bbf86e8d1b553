"""Candidates are transformers' own filters in their own order; drawing keeps to their probabilities."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lenvm.decoding.candidates import Candidates, candidates, draw, random_numbers
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError

VOCABULARY = 37


def transformers_distribution(logits: Tensor, settings: SamplingSettings) -> Tensor:
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(settings.temperature or 1.0))])
    if settings.top_k:
        warpers.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        warpers.append(TopPLogitsWarper(settings.top_p))
    warpers.append(MinPLogitsWarper(settings.min_p))
    return torch.softmax(warpers(torch.zeros(len(logits), 1, dtype=torch.long), logits), -1)  # type: ignore[arg-type]


def over_vocabulary(found: Candidates, size: int = VOCABULARY) -> Tensor:
    return torch.zeros(len(found.ids), size).scatter_add_(1, found.ids, found.log_probs.exp())


@given(
    st.integers(0, 10_000),
    st.floats(0.3, 8.0),
    st.floats(0.2, 3.0),
    st.integers(0, 50),
    st.floats(0.05, 1.0),
    st.floats(0.0, 0.9),
)
def test_the_filters_are_those_of_transformers_in_their_order(
    seed: int, spread: float, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = spread * torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(seed))
    for settings in (
        SamplingSettings(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p),
        SamplingSettings(temperature=temperature, top_p=top_p),
        SamplingSettings(top_k=top_k, min_p=min_p),
        SamplingSettings(top_k=top_k),
    ):
        found = candidates(logits, settings)
        torch.testing.assert_close(over_vocabulary(found), transformers_distribution(logits, settings))
        assert torch.equal(found.mask, found.log_probs > -torch.inf)
        torch.testing.assert_close(found.log_probs.exp().sum(-1), torch.ones(4))
        assert all(len(set(row)) == len(row) for row in found.ids.tolist())
        if settings.top_k or settings.top_p < 1 or settings.min_p:
            assert (found.log_probs[:, 1:] <= found.log_probs[:, :-1]).all()


def test_the_order_of_the_filters_matters_and_is_temperature_top_k_top_p() -> None:
    logits = torch.tensor([[0.50, 0.30, 0.12, 0.08]]).log()
    # of all tokens the first two reach 0.8; among the first three they are 0.87, and at temperature 2 only 0.75
    assert candidates(logits, SamplingSettings(top_p=0.81)).mask.sum() == 3
    assert candidates(logits, SamplingSettings(top_p=0.81, top_k=3)).mask.sum() == 2
    assert candidates(logits, SamplingSettings(top_p=0.81, top_k=3, temperature=2.0)).mask.sum() == 3


def test_at_temperature_0_candidates_are_those_of_temperature_1() -> None:
    logits = torch.randn(3, VOCABULARY)
    for options in ({"top_k": 5}, {"top_p": 0.6}, {}):
        cold, plain = (candidates(logits, SamplingSettings(temperature=t, **options)) for t in (0.0, 1.0))
        for one, other in zip(cold, plain, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("options", [{}, {"top_k": 6}, {"top_k": 6, "top_p": 0.9}, {"min_p": 0.01}, {"top_p": 0.99}])
def test_tokens_that_are_ruled_out_are_no_candidates(options: dict[str, float]) -> None:
    logits = torch.randn(3, VOCABULARY)
    logits[0, :-2] = logits[1, 5:] = logits[2, 1:] = -torch.inf  # two, five and one are left
    found = candidates(logits, SamplingSettings(**options))  # type: ignore[arg-type]
    offered = [set(ids[mask].tolist()) for ids, mask in zip(found.ids, found.mask, strict=True)]
    assert offered[0] <= {35, 36}
    assert offered[1] <= {0, 1, 2, 3, 4}
    assert offered[2] == {0}
    torch.testing.assert_close(found.log_probs.exp().sum(-1), torch.ones(3))


def test_half_precision_logits_are_filtered_in_full_precision() -> None:
    logits = (4 * torch.randn(5, VOCABULARY)).bfloat16()
    settings = SamplingSettings(top_k=9, top_p=0.7)
    found, exact = candidates(logits, settings), candidates(logits.float(), settings)
    assert found.log_probs.dtype == torch.float32
    assert torch.equal(found.log_probs, exact.log_probs)


def test_draws_come_as_often_as_the_distribution_says() -> None:
    rows = torch.tensor([[0.4, 0.0, 0.35, 0.25, 0.0], [0.0, 0.0, 0.01, 0.0, 0.99], [0.2, 0.2, 0.2, 0.2, 0.2]])
    count = 20_000
    grid = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    for row in rows:
        columns = draw(row.log().expand(count, -1), grid)
        shares = torch.bincount(columns, minlength=5).double() / count
        # evenly spaced numbers leave no room for chance: each column gets its share to within one number
        assert (shares - row.double()).abs().max() <= 1.0 / count
        assert (shares[row == 0] == 0).all()


def test_a_draw_inverts_the_cumulative_distribution() -> None:
    log_probs = torch.tensor([0.25, 0.5, 0.25]).log().expand(5, -1)
    uniforms = torch.tensor([0.0, 0.2499999, 0.2500001, 0.7499999, 0.7500001], dtype=torch.float64)
    assert draw(log_probs, uniforms).tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("uniform", [0.0, 1e-300, 0.5, 1 - 2**-53])
def test_a_column_without_probability_is_never_drawn(uniform: float) -> None:
    for row in ([0.0, 1.0, 0.0], [0.0, 0.0, 1e-30], [1e-38, 0.0, 0.0], [0.0, 0.3, 0.0]):
        log_probs = torch.tensor([row]).log()
        column = int(draw(log_probs, torch.tensor([uniform], dtype=torch.float64)))
        assert row[column] > 0


def test_without_random_numbers_the_most_probable_is_taken() -> None:
    log_probs = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.4, 0.0]]).log()
    assert draw(log_probs, None).tolist() == [1, 0]


def test_random_numbers_belong_to_key_and_seed_and_not_to_the_batch() -> None:
    table = random_numbers(["a", "b", "c"], [5, 9, 2], seed=3)
    assert table.shape == (3, 9)
    assert ((table >= 0) & (table < 1)).all()
    torch.testing.assert_close(random_numbers(["b"], [4], seed=3)[0], table[1, :4], atol=0, rtol=0)
    assert (table[0, 5:] == 0).all()
    assert not torch.equal(random_numbers(["b"], [9], seed=4)[0], table[1])
    assert not torch.equal(table[0, :2], table[2, :2])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [-1.0, float("inf"), float("nan")]),
        ("top_k", [-1]),
        ("top_p", [0, 1.1, -0.5, float("nan")]),
        ("min_p", [-0.1, 1.0, float("nan")]),
        ("max_tokens", [0, -5]),
    ],
)
def test_settings_outside_their_range_are_refused(name: str, values: list[float]) -> None:
    for value in values:
        with pytest.raises(InputError, match=f"`{name}` must be .*, got"):
            SamplingSettings(**{name: value})

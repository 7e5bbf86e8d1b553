from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from lenvm.evaluation.prompt_boundary.measures import errors, errors_by_domain, length_bins, prompt_errors
from lenvm.evaluation.prompt_boundary.midstream import midstream_errors
from lenvm.evaluation.prompt_boundary.predictors import PromptTable
from lenvm.evaluation.prompt_boundary.reliability import Reliability
from lenvm.evaluation.prompt_boundary.states import midstream_states
from lenvm.metrics import return_consistent_length
from lenvm.report.prediction_plots import bias_by_length, error_by_group, midstream_error, reliability_diagram

GAMMA = 0.97


def table_of(lengths: list[list[int]], domains: list[str] | None = None) -> PromptTable:
    groups = torch.repeat_interleave(torch.tensor([len(own) for own in lengths]))
    flat = torch.tensor([n for own in lengths for n in own])
    count = len(lengths)
    return PromptTable(
        prompt_ids=[str(i) for i in range(count)],
        texts=["?"] * count,
        token_ids=[[1]] * count,
        lengths=return_consistent_length(flat, groups, GAMMA).numpy(),
        completion_lengths=[np.array(own) for own in lengths],
        domains=domains or ["all"] * count,
    )


def test_errors_against_the_three_truths_by_hand() -> None:
    table = table_of([[10, 30, 80], [5, 5, 5]])
    consistent = [math.log(np.mean([GAMMA**n for n in own])) / math.log(GAMMA) for own in ([10, 30, 80], [5])]
    assert 10 < consistent[0] < 40  # Jensen: below the mean
    found = prompt_errors(np.array([100.0, 4.0]), table)
    assert found["mre"] == pytest.approx(np.mean([100 / consistent[0] - 1, 0.2]))
    assert found["mae"] == pytest.approx(np.mean([100 - consistent[0], 1]))
    assert found["mre_mean"] == pytest.approx(np.mean([60 / 40, 0.2]))
    assert found["mae_mean"] == pytest.approx(np.mean([60, 1]))
    assert found["mre_median"] == pytest.approx(np.mean([70 / 30, 0.2]))
    assert found["mae_median"] == pytest.approx(np.mean([70, 1]))
    assert found["within_50"] == 0.5  # |100 - consistent| lies between 50 and 100
    assert found["within_100"] == 1.0
    low, high = found["mre_interval"]
    assert low <= found["mre"] <= high


def test_the_border_of_near_counts_and_ties_are_tau_b() -> None:
    assert errors(np.array([60.0, 61.0]), np.array([10.0, 10.0]))["within_50"] == 0.5
    predicted, true = np.array([1.0, 1, 2, 3, 3, 9]), np.array([1.0, 2, 2, 5, 4, 3])
    assert errors(predicted, true)["kendall_tau"] == pytest.approx(kendalltau(predicted, true, variant="b").statistic)
    assert errors(predicted, np.ones(6))["kendall_tau"] == 0.0


def test_domains_are_judged_by_their_own_prompts() -> None:
    table = table_of([[10], [20], [40]], ["math", "code", "math"])
    found = errors_by_domain({"a": np.array([11.0, 10.0, 40.0])}, table)
    assert list(found) == ["overall", "code", "math"]
    assert found["code"]["a"]["mre"] == pytest.approx(0.5)
    assert found["math"]["a"]["mre"] == pytest.approx(0.05)
    assert found["overall"]["a"]["mre"] == pytest.approx(0.2)
    assert list(errors_by_domain({"a": np.ones(3)}, table_of([[1], [2], [3]]))) == ["overall"]


def test_length_bins_by_hand() -> None:
    true = np.array([9.0, 1, 2, 3, 4, 5, 6, 7, 8, 10])
    predicted = true + np.array([5.0, 1, -1, 1, -1, 0, 5, 5, 5, 0])
    short, long = length_bins(predicted, true, count=8)  # ten prompts are too few for eight bins
    assert (short.low, short.high, short.prompts) == (1, 5, 5)
    assert (long.low, long.high, long.prompts) == (6, 10, 5)
    assert (short.bias, long.bias) == (0, 4)
    assert short.std**2 == pytest.approx(4 / 5)
    assert long.std**2 == pytest.approx(np.var([5, 5, 5, 5, 0]))
    assert short.mre == pytest.approx(np.mean([1, 1 / 2, 1 / 3, 1 / 4, 0]))
    assert len(length_bins(predicted[:3], true[:3])) == 1


def test_states_of_relative_positions_are_floors() -> None:
    assert midstream_states(1).tolist() == [0, 0, 0, 0, 0]
    assert midstream_states(10).tolist() == [0, 2, 5, 7, 9]
    assert midstream_states(np.array([100, 7])).tolist() == [[0, 25, 50, 75, 90], [0, 1, 3, 5, 6]]


def test_midstream_errors_by_hand() -> None:
    lengths = np.array([10, 100])
    predicted = np.array([[12.0, 8, 5, 3, np.nan], [50.0, 75, 40, 25, 20]])
    found = midstream_errors(lengths, {"model": predicted})
    assert found["mae"]["model"] == pytest.approx({"0": 26, "25": 0, "50": 5, "75": 0, "90": 10})
    assert found["relative_error"]["model"]["0"] == pytest.approx((0.2 + 0.5) / 2)
    # the median of 10 and 100 counts down from 55, and says at least 1
    assert found["mae"]["best constant"]["50"] == pytest.approx((abs(50 - 5) + abs(5 - 50)) / 2)
    assert found["mae"]["best constant"]["90"] == pytest.approx(abs(1 - 10))
    # 10 is the constant with the smallest relative error
    assert found["relative_error"]["best constant"]["0"] == pytest.approx((0 + 0.9) / 2)
    assert found["states"] == {"0": 2, "25": 2, "50": 2, "75": 2, "90": 1}


def test_reliability_by_hand() -> None:
    reliability = Reliability()
    reliability.add(np.array([0.1, 0.1, 0.1, 0.1]), np.array([0.0, 0.2, 0.0, 0.2]))  # calibrated
    reliability.add(np.array([0.8, 0.8, 0.8, 0.8]), np.array([0.5, 0.5, 0.7, 0.7]))  # 0.2 too much
    low, high = reliability.bins(2)
    assert (low.states, low.predicted, low.true) == (4, pytest.approx(0.1), pytest.approx(0.1))
    assert (high.states, high.predicted, high.true) == (4, pytest.approx(0.8), pytest.approx(0.6))
    assert reliability.expected_error(2) == pytest.approx(0.1)
    assert math.isnan(Reliability().expected_error())


@given(st.integers(0, 1000))
def test_reliability_of_parts_adds_up_and_bins_are_of_equal_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = rng.beta(1, 2, 3000)
    true = rng.uniform(size=3000)
    whole, parts = Reliability(), Reliability()
    whole.add(predicted, true)
    for chosen in np.array_split(np.arange(3000), 3):
        part = Reliability()
        part.add(predicted[chosen], true[chosen])
        parts.sums += part.sums
    np.testing.assert_allclose(whole.sums, parts.sums)
    bins = whole.bins(10)
    assert sum(b.states for b in bins) == 3000
    assert all(abs(b.states - 300) < 30 for b in bins)
    assert np.average([b.predicted for b in bins], weights=[b.states for b in bins]) == pytest.approx(predicted.mean())
    edges = np.quantile(predicted, np.linspace(0, 1, 11))
    assert all(low < b.predicted < high for b, low, high in zip(bins, edges, edges[1:], strict=False))


def test_the_horizon_1_stays_in_the_last_cell() -> None:
    reliability = Reliability()
    reliability.add(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    assert reliability.expected_error() == 0.0


def test_figures_show_what_they_are_given() -> None:
    dots = error_by_group({"all": {"a": 0.1, "b": 0.2}, "math": {"a": 0.3, "b": 9.0}}, xlabel="MRE")
    axes = dots.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["all", "math"]
    assert axes.get_xscale() == "log"
    assert error_by_group({"all": {"a": 0.1, "b": 0.2}}, xlabel="MRE").axes[0].get_xscale() == "linear"
    assert [text.get_text() for text in dots.legends[0].get_texts()] == ["a", "b"]
    band = bias_by_length([10, 20], [1, -2], [3, 4], [5, 6]).axes[0]
    assert "5 to 6 prompts" in band.get_xlabel()
    diagram = reliability_diagram([0.2, 0.6], [0.3, 0.5], expected_error=0.1).axes[0]
    np.testing.assert_allclose(diagram.lines[1].get_xydata(), [[0.2, 0.3], [0.6, 0.5]])
    by_q = {"model": {"0": 3.0, "50": 1.0}, "best constant": {"0": 5.0, "50": 4.0}}
    panels = midstream_error(by_q, by_q).axes
    assert [len(panel.lines) for panel in panels] == [2, 2]
    np.testing.assert_allclose(panels[1].lines[0].get_xydata(), [[0, 3], [50, 1]])

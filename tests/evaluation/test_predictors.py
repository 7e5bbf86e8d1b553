from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline

from lenvm.errors import InputError
from lenvm.evaluation.by_position import position_errors
from lenvm.evaluation.prompt_boundary.measures import errors
from lenvm.evaluation.prompt_boundary.predictors import (
    AbstractLengthPredictor,
    BestConstant,
    PromptLengthLine,
    PromptTable,
    TfidfRidge,
    best_constant,
)
from lenvm.evaluation.prompt_boundary.rivals import teach


def table(num_prompts: int, seed: int) -> PromptTable:
    """Prompts whose answers are as long as one word asks for, and longer for longer prompts."""
    rng = np.random.default_rng(seed)
    words = {"brief": 20.0, "plain": 40.0, "epic": 80.0}
    kinds = rng.choice(list(words), num_prompts)
    sizes = rng.integers(2, 100, num_prompts)
    texts = [
        f"write something {kind} about {' '.join(['things'] * size)}" for kind, size in zip(kinds, sizes, strict=True)
    ]
    lengths = np.array([words[kind] for kind in kinds]) * sizes / 20 * np.exp(0.1 * rng.normal(size=num_prompts))
    return PromptTable(
        prompt_ids=[str(i) for i in range(num_prompts)],
        texts=texts,
        token_ids=[[5] * size for size in sizes],
        lengths=lengths,
        completion_lengths=[np.array([round(length)]) for length in lengths],
        domains=["all"] * num_prompts,
    )


@given(lengths=st.lists(st.integers(1, 500), min_size=1, max_size=30))
def test_no_constant_has_a_smaller_mean_relative_error(lengths: list[int]) -> None:
    true = np.array(lengths, dtype=float)
    best = np.mean(np.abs(best_constant(true) - true) / true)
    # the error is piecewise linear in the constant, so its minimum is at one of the lengths
    assert best <= min(np.mean(np.abs(c - true) / true) for c in true) + 1e-12


def test_predictors_that_read_more_do_better_on_prompts_they_never_saw() -> None:
    train, held_out = table(200, seed=0), table(100, seed=1)
    mre = []
    predictors: list[AbstractLengthPredictor] = [BestConstant(), PromptLengthLine(), TfidfRidge()]
    for predictor in predictors:
        predictor.fit(train)
        predicted = predictor.predict(held_out)
        assert predicted.shape == (100,)
        assert (predicted > 0).all()
        mre.append(errors(predicted, held_out.lengths)["mre"])
    constant, line, ridge = mre
    assert line < constant
    assert ridge < 0.6 * line
    assert len({predictor.name for predictor in predictors}) == 3


def test_the_sparse_ridge_does_as_well_as_an_exact_one_and_builds_no_matrix_of_prompts_by_prompts() -> None:
    train, held_out = table(300, seed=0), table(100, seed=1)
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    exact = make_pipeline(words, RidgeCV(alphas=(0.1, 0.3, 1.0, 3.0, 10.0))).fit(train.texts, np.log(train.lengths))
    expected = errors(np.exp(exact.predict(held_out.texts)), held_out.lengths)["mre"]
    ridge = TfidfRidge()
    ridge.fit(train)
    assert errors(ridge.predict(held_out), held_out.lengths)["mre"] == pytest.approx(expected, rel=0.05)
    many = table(2500, seed=2)
    rng = np.random.default_rng(0)
    texts = [" ".join(f"word{word}" for word in rng.integers(5000, size=20)) for _ in range(2500)]
    many = PromptTable(**{**vars(many), "texts": texts})
    tracemalloc.start()
    try:
        ridge.fit(many)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2500 * 2500 * 8 / 2


def test_a_handful_of_prompts_is_enough_for_a_ridge() -> None:
    ridge = TfidfRidge()
    ridge.fit(table(2, seed=0))
    assert (ridge.predict(table(5, seed=1)) > 0).all()


def test_rivals_are_taught_training_prompts_or_nothing() -> None:
    rivals: list[AbstractLengthPredictor] = [BestConstant()]
    with pytest.raises(InputError, match="`constant` expects training prompts to learn from"):
        teach(rivals, None)


def test_errors_follow_their_definitions() -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.uniform(1, 100, 40), rng.uniform(1, 100, 40)
    found = errors(predicted, true)
    relative = np.abs(predicted - true) / true
    assert found["mre"] == pytest.approx(np.mean(relative))
    assert found["median_re"] == pytest.approx(np.median(relative))
    assert found["mae"] == pytest.approx(np.mean(np.abs(predicted - true)))
    assert found["kendall_tau"] == pytest.approx(kendalltau(predicted, true).statistic)
    assert errors(np.full(3, 5.0), np.array([1.0, 2.0, 3.0]))["kendall_tau"] == 0.0


def test_position_errors_follow_their_definition() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 50)
    position = np.concatenate([np.arange(n) for n in lengths]).astype(float)
    remaining = np.concatenate([np.arange(n, 0, -1) for n in lengths]).astype(float)
    predicted = remaining + rng.normal(size=len(remaining))
    found = position_errors(position, remaining, predicted)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    for percent in (0, 25, 50, 75, 90):
        rows = starts + (percent * lengths) // 100
        true = remaining[rows]
        assert found["length value model"][str(percent)] == pytest.approx(np.mean(np.abs(predicted[rows] - true)))
        # each completion is taken to be as long as the median one
        counted_down = np.maximum(np.median(lengths) - position[rows], 1)
        assert found["best constant"][str(percent)] == pytest.approx(np.mean(np.abs(counted_down - true)))
    constants = [np.mean(np.abs(c - lengths)) for c in np.unique(lengths)]
    assert found["best constant"]["0"] == pytest.approx(min(constants))


def test_predictions_without_beginnings_of_completions_are_refused() -> None:
    with pytest.raises(InputError, match="no state at 0% of a completion"):
        position_errors(np.array([5.0]), np.array([2.0]), np.array([2.0]))

from __future__ import annotations

import random

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenvm.data.split import limit_rows, numbered, split_prompts
from lenvm.errors import InputError

PROMPTS = [f"p{i}" for i in range(100)]


@given(
    numbers=st.lists(st.integers(0, 99), min_size=4, max_size=60, unique=True),
    repeats=st.integers(1, 3),
    val=st.floats(0, 0.5),
    test=st.floats(0, 0.4),
    seed=st.integers(0, 5),
)
def test_every_prompt_is_in_exactly_one_part(
    numbers: list[int], repeats: int, val: float, test: float, seed: int
) -> None:
    prompts = [PROMPTS[n] for n in numbers]
    parts = split_prompts(prompts * repeats, {"val": val, "test": test}, seed)
    assert sorted(p for part in parts.values() for p in part) == sorted(prompts)
    assert set(parts) == {"val", "test", "train"}


def test_the_parts_do_not_depend_on_the_order_or_number_of_rows() -> None:
    shuffled = PROMPTS * 3
    random.Random(0).shuffle(shuffled)
    fractions = {"val": 0.1, "test": 0.2}
    assert split_prompts(shuffled, fractions, 0) == split_prompts(PROMPTS, fractions, 0)


def test_another_seed_gives_other_parts_and_the_same_seed_the_same() -> None:
    one, two, again = (split_prompts(PROMPTS, {"val": 0.2}, seed) for seed in (0, 1, 0))
    assert one == again
    assert one["val"] != two["val"]


@pytest.mark.parametrize(
    ("count", "fractions", "sizes"),
    [
        (100, {"val": 0.1}, {"val": 10, "train": 90}),
        (100, {"val": 0.1, "test": 0.25}, {"val": 10, "test": 25, "train": 65}),
        (7, {"val": 0.5}, {"val": 4, "train": 3}),
        (5, {"val": 0.01}, {"val": 1, "train": 4}),
        (5, {"val": 0.0}, {"val": 0, "train": 5}),
        (3, {}, {"train": 3}),
        (2, {"val": 0.9}, {"val": 2, "train": 0}),
    ],
)
def test_sizes_are_exact_and_a_part_that_was_asked_for_is_not_empty(
    count: int, fractions: dict[str, float], sizes: dict[str, int]
) -> None:
    if sizes["train"] == 0:
        with pytest.raises(InputError, match=r"2 prompt\(s\) are too few to be split into training and val"):
            split_prompts(PROMPTS[:count], fractions, 0)
        return
    parts = split_prompts(PROMPTS[:count], fractions, 0)
    assert {name: len(part) for name, part in parts.items()} == sizes


@pytest.mark.parametrize(
    "fractions", [{"val": 1.0}, {"val": -0.1}, {"val": 0.5, "test": 0.5}, {"val": float("nan")}, {"val": 1.5}]
)
def test_fractions_that_leave_nothing_for_training_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"must lie in \[0, 1\) and leave some for training"):
        split_prompts(PROMPTS, fractions, 0)


@pytest.mark.parametrize("prompts", [["one"], ["one"] * 50, []])
def test_too_few_prompts_are_refused(prompts: list[str]) -> None:
    with pytest.raises(InputError, match=r"prompt\(s\) are too few to be split into training and val"):
        split_prompts(prompts, {"val": 0.1}, 0)


def test_prompts_are_numbered_in_order_of_appearance() -> None:
    numbers, names = numbered(pa.chunked_array([["b", "a", "b"], ["c", "a"]]))
    assert numbers.tolist() == [0, 1, 0, 2, 1]
    assert numbers.dtype == np.int64
    assert names == ["b", "a", "c"]
    empty, none = numbered(pa.chunked_array([], pa.string()))
    assert (len(empty), none) == (0, [])


@given(
    prompts=st.lists(st.sampled_from(PROMPTS[:9]), min_size=12, max_size=60),
    count=st.integers(1, 5),
    samples=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_limits_keep_the_first_completions_of_so_many_prompts(
    prompts: list[str], count: int, samples: int, seed: int
) -> None:
    store = datasets.Dataset(pa.table({"prompt_id": prompts}))
    rows = np.arange(2, len(prompts))  # the first two are not to choose from
    there = set(prompts[2:])
    if count > len(there):
        with pytest.raises(InputError, match=f"`data.train_prompts` asks for {count} prompts, but there are"):
            limit_rows(store, rows, prompts=count, samples=None, seed=seed)
        return
    kept = limit_rows(store, rows, prompts=count, samples=samples, seed=seed).tolist()
    chosen = {prompts[i] for i in kept}
    assert len(chosen) == count
    for prompt in chosen:
        assert [i for i in kept if prompts[i] == prompt] == [i for i in rows if prompts[i] == prompt][:samples]
    assert kept == sorted(kept)
    if count < len(there):  # more include the fewer
        more = limit_rows(store, rows, prompts=count + 1, samples=samples + 1, seed=seed).tolist()
        assert set(kept) < set(more)
    assert limit_rows(store, rows, prompts=None, samples=None, seed=seed).tolist() == rows.tolist()


@pytest.mark.parametrize("limits", [{"prompts": 0, "samples": None}, {"prompts": None, "samples": 0}])
def test_limits_below_one_are_refused(limits: dict[str, int | None]) -> None:
    store = datasets.Dataset(pa.table({"prompt_id": PROMPTS}))
    with pytest.raises(InputError, match=r"`data.train_(prompts|samples)` must be at least 1, got 0"):
        limit_rows(store, np.arange(100), **limits, seed=0)

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lenvm.data.batching
from lenvm.data.batching import AbstractBatching, Bucketed, Grouped, RowFacts, Shuffled
from lenvm.errors import InputError


def discovered() -> list[type[AbstractBatching]]:
    for module in pkgutil.iter_modules(lenvm.data.batching.__path__, "lenvm.data.batching."):
        importlib.import_module(module.name)

    def below(cls: type) -> list[type]:
        return [found for sub in cls.__subclasses__() for found in (sub, *below(sub))]

    return [cls for cls in below(AbstractBatching) if not inspect.isabstract(cls)]


def facts(per_prompt: list[int], seed: int = 0) -> RowFacts:
    """Rows of prompts with so many completions each, in mixed order, with lengths from 2 to 400."""
    rng = np.random.default_rng(seed)
    prompt = rng.permutation(np.repeat(np.arange(len(per_prompt)), per_prompt))
    return RowFacts(length=np.exp(rng.uniform(np.log(2), np.log(400), len(prompt))).astype(np.int64), prompt=prompt)


def batches(scheme: AbstractBatching, rows: RowFacts, batch_size: int, seed: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in scheme.batches(rows, batch_size, np.random.default_rng(seed))]


SCHEMES = [pytest.param(cls(), id=cls.__name__) for cls in discovered()]
SCHEMES.append(pytest.param(Bucketed(window=3), id="Bucketed-3"))
laws = pytest.mark.parametrize("scheme", SCHEMES)


# one prompt with a single completion: equally many everywhere have to divide the batch size
unequal = st.lists(st.integers(1, 6), min_size=1, max_size=30).map(lambda sizes: [1, *sizes])


def test_discovery_finds_the_three_schemes_of_the_contract() -> None:
    assert {Shuffled, Grouped, Bucketed} <= set(discovered())


@laws
@given(per_prompt=unequal, batch_size=st.integers(6, 20))
def test_every_row_comes_exactly_once_in_batches_no_larger_than_asked(
    scheme: AbstractBatching, per_prompt: list[int], batch_size: int
) -> None:
    made = batches(scheme, facts(per_prompt), batch_size)
    assert sorted(row for batch in made for row in batch) == list(range(sum(per_prompt)))
    assert all(1 <= len(batch) <= batch_size for batch in made)


@laws
def test_the_order_follows_the_seed_and_nothing_else(scheme: AbstractBatching) -> None:
    rows = facts([4] * 40)
    np.random.seed(0)
    one = batches(scheme, rows, 8, seed=3)
    np.random.seed(1)
    assert batches(scheme, rows, 8, seed=3) == one
    assert batches(scheme, rows, 8, seed=4) != one


@laws
def test_equally_many_completions_per_prompt_fill_every_batch(scheme: AbstractBatching) -> None:
    assert {len(batch) for batch in batches(scheme, facts([4] * 40), 16)} == {16}


@given(per_prompt=unequal, batch_size=st.integers(6, 20))
def test_grouped_keeps_prompts_whole(per_prompt: list[int], batch_size: int) -> None:
    rows = facts(per_prompt)
    home: dict[int, int] = {}
    for number, batch in enumerate(batches(Grouped(), rows, batch_size)):
        for row in batch:
            assert home.setdefault(int(rows.prompt[row]), number) == number


def test_grouped_fills_all_batches_but_the_last_where_sizes_divide() -> None:
    sizes = [len(batch) for batch in batches(Grouped(), facts([4] * 41), 16)]
    assert sizes[:-1] == [16] * 10
    assert sizes[-1] == 4


def test_grouped_refuses_a_batch_size_that_equal_groups_do_not_divide() -> None:
    with pytest.raises(InputError, match=r"needs a `batch_size` that the 6 completions .* got 16, try 12"):
        batches(Grouped(), facts([6] * 10), 16)


def test_grouped_puts_a_prompt_where_there_is_room() -> None:
    for seed in range(4):
        assert [len(batch) for batch in batches(Grouped(), facts([7, 1]), 8, seed)] == [8]


def test_grouped_mixes_the_prompts_anew_with_every_seed() -> None:
    rows = facts([4] * 40)
    together = [{frozenset(rows.prompt[b].tolist()) for b in batches(Grouped(), rows, 8, seed)} for seed in (0, 1)]
    assert len(together[0] & together[1]) < 5


def test_grouped_refuses_a_prompt_that_no_batch_can_hold() -> None:
    message = "keeps all 9 completions of a prompt together, but `batch_size` is 8; raise it to at least 9"
    with pytest.raises(InputError, match=message):
        batches(Grouped(), facts([2, 9, 3]), 8)


def test_shuffled_separates_the_completions_of_a_prompt() -> None:
    rows = facts([8] * 40)
    prompts_per_batch = [len(set(rows.prompt[batch].tolist())) for batch in batches(Shuffled(), rows, 8)]
    assert np.mean(prompts_per_batch) > 6.5  # Grouped has 1


def padding(made: list[list[int]], rows: RowFacts) -> float:
    cells = sum(len(batch) * int(rows.length[batch].max()) for batch in made)
    return 1 - int(rows.length.sum()) / cells


def test_bucketed_pads_less_than_shuffled() -> None:
    rows = facts([1] * 600)
    schemes = (Shuffled(), Bucketed(), Bucketed(window=40))
    shuffled, bucketed, sorted_nearly = (padding(batches(scheme, rows, 16), rows) for scheme in schemes)
    assert shuffled > 0.5
    assert bucketed < 0.7 * shuffled
    assert sorted_nearly < 0.1


@pytest.mark.parametrize("window", [1, 2, 4])
def test_the_batches_of_a_window_hold_the_very_rows_that_shuffled_has_there(window: int) -> None:
    rows = facts([3] * 50)
    one, two = batches(Bucketed(window=window), rows, 8, seed=5), batches(Shuffled(), rows, 8, seed=5)
    assert len(one) == len(two)
    for start in range(0, len(one), window):
        here, there = ({row for batch in made[start : start + window] for row in batch} for made in (one, two))
        assert here == there


def test_a_wider_window_pads_less() -> None:
    rows = facts([1] * 600)
    wastes = [padding(batches(Bucketed(window=w), rows, 8), rows) for w in (1, 4, 75)]
    assert wastes == sorted(wastes, reverse=True)
    assert wastes[0] == pytest.approx(padding(batches(Shuffled(), rows, 8), rows), abs=0.05)


def test_bucketed_does_not_go_from_short_to_long() -> None:
    rows = facts([1] * 600)
    means = [rows.length[batch].mean() for batch in batches(Bucketed(), rows, 8)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.4


def test_bucketed_needs_a_window() -> None:
    with pytest.raises(InputError, match="`window` must be at least 1, got 0"):
        Bucketed(window=0)

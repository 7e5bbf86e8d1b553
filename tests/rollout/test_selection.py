from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError
from lenvm.rollout.selection import Selection, parse_mix, quotas, schedule, smallest_keys
from lenvm.tasks import AbstractTask, Part, TaskPrompt, in_part


def row(number: int, domain: str = "math", prompt: str | None = None) -> TaskPrompt:
    return TaskPrompt(
        f"row {number}", Rollout(prompt=prompt or f"prompt {number}", prompt_id=f"{domain}{number}", domain=domain)
    )


@dataclass(frozen=True, kw_only=True)
class Listed(AbstractTask):
    rows: tuple[TaskPrompt, ...]

    def prompts(self, part: Part, seed: int, domain: str | None = None) -> Iterator[TaskPrompt]:
        for entry in self.rows:
            if entry.rollout is None or (
                in_part(entry.rollout.prompt_id, part) and domain in (None, entry.rollout.domain)
            ):
                yield entry


@dataclass(frozen=True, kw_only=True)
class Endless(AbstractTask):
    is_endless: ClassVar[bool] = True
    different: int

    def prompts(self, part: Part, seed: int, domain: str | None = None) -> Iterator[TaskPrompt]:
        for number in count():
            yield row(number % self.different, domain or "math")


def chosen(task: AbstractTask, **options: object) -> list[str]:
    given_options = {"part": "all", "seed": 0, "count": None, "mix": None, "excluded": ()}
    total, rows = Selection(task=task, **given_options | options).prompts()  # type: ignore[arg-type]
    found = [entry.rollout.prompt_id for entry in rows if entry.rollout is not None]
    assert len(found) == len(set(found)) == total
    return found


ROWS = Listed(rows=tuple(row(i) for i in range(500)))
MIXED = Listed(rows=tuple(row(i, ("math", "code")[i % 2]) for i in range(400)))


def test_the_choice_depends_on_the_seed_and_not_on_the_order() -> None:
    some = chosen(ROWS, count=50)
    shuffled = list(ROWS.rows)
    random.Random(1).shuffle(shuffled)
    assert set(chosen(Listed(rows=tuple(shuffled)), count=50)) == set(some)
    others = chosen(ROWS, count=50, seed=1)
    assert len(set(some) & set(others)) < 15


def test_more_prompts_include_the_fewer() -> None:
    assert set(chosen(ROWS, count=50)) < set(chosen(ROWS, count=120)) < set(chosen(ROWS))
    few = chosen(MIXED, count=30, mix={"math": 1, "code": 2})
    assert set(few) < set(chosen(MIXED, count=91, mix={"math": 1, "code": 2}))


def test_parts_share_no_prompt_whatever_the_seed_and_number() -> None:
    train = {p for seed in range(3) for p in chosen(ROWS, part="train", seed=seed, count=200)}
    test = {p for seed in range(3) for p in chosen(ROWS, part="test", seed=seed, count=20)}
    assert not train & test
    assert 30 < len(chosen(ROWS, part="test")) < 75


def test_excluded_prompts_are_replaced_by_others() -> None:
    some = chosen(ROWS, count=50)
    others = chosen(ROWS, count=50, excluded=set(some))
    assert not set(some) & set(others)


def test_domains_come_in_their_shares_from_the_start() -> None:
    found = chosen(MIXED, count=90, mix={"math": 1, "code": 2})
    assert Counter(p.rstrip("0123456789") for p in found) == {"math": 30, "code": 60}
    for end in range(3, 90, 3):
        assert sum(p.startswith("math") for p in found[:end]) == end // 3


def test_an_endless_task_gives_its_first_prompts() -> None:
    assert chosen(Endless(different=100), count=7) == [f"math{i}" for i in range(7)]
    seen: list[None] = []
    selection = Selection(task=Endless(different=5), part="all", seed=0, count=7, mix=None, excluded=())
    with pytest.raises(InputError, match="the task has only 5 different prompts of the part `all`; ask for fewer"):
        selection.prompts(lambda: seen.append(None))
    assert len(seen) == 5


def test_an_endless_task_whose_prompts_are_excluded_has_none() -> None:
    most = [f"math{i}" for i in range(4)]
    assert chosen(Endless(different=5), count=1, excluded=most) == ["math4"]
    with pytest.raises(InputError, match="the task has no prompt in the part `all`"):
        chosen(Endless(different=4), count=1, excluded=most)


def test_an_endless_task_counts_what_can_be_used_and_reads_no_further() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Bad(Endless):
        def prompts(self, part: Part, seed: int, domain: str | None = None) -> Iterator[TaskPrompt]:
            yield TaskPrompt("row 0", None, "broken")
            yield row(0)
            yield row(1)
            raise AssertionError("nobody wants more")

    assert chosen(Bad(different=0), count=2) == ["math0", "math1"]


def test_the_same_row_twice_is_one_prompt_and_an_id_with_two_prompts_is_a_problem() -> None:
    task = Listed(rows=(row(1), row(2), row(1), row(2, prompt="another"), TaskPrompt("row 5", None, "broken")))
    total, rows = Selection(task=task, part="all", seed=0, count=None, mix=None, excluded=()).prompts()
    found = list(rows)
    assert total == 2
    assert [entry.rollout.prompt for entry in found if entry.rollout] == ["prompt 1", "prompt 2"]
    assert [entry.problem for entry in found if not entry.rollout] == [
        "prompt_id 'math2' was given to another prompt before; ids must differ",
        "broken",
    ]
    same = Rollout(prompt="What is this?", prompt_id="a")
    pictures = [TaskPrompt(f"row {i}", replace(same, images=[f"{i}.png"])) for i in range(3)]
    _, rows = Selection(task=Listed(rows=tuple(pictures)), part="all", seed=0, count=1, mix=None, excluded=()).prompts()
    assert [entry.problem is None for entry in rows] == [True, False, False]


def test_a_prompt_of_two_domains_counts_for_one_of_them() -> None:
    rows = [row(i, d, prompt=f"prompt {i}") for i in range(40) for d in ("math", "code")]
    same = [r._replace(rollout=replace(r.rollout, prompt_id=r.rollout.prompt or "")) for r in rows if r.rollout]
    for number in (10, 20, 33, 40):
        chosen(Listed(rows=tuple(same)), count=number, mix={"math": 1, "code": 1})  # it checks their number
    with pytest.raises(InputError, match="prompts of the domain 'code' are wanted, but there are"):
        chosen(Listed(rows=tuple(same)), count=41, mix={"math": 1, "code": 1})


def test_a_row_that_cannot_be_used_is_told_of_once_whatever_the_domains() -> None:
    broken = [TaskPrompt(f"broken {i}", None, "broken") for i in range(3)]
    task = Listed(rows=(broken[0], *MIXED.rows[:50], *broken[1:]))
    for mix in (None, {"math": 1.0, "code": 1.0}):
        _, found = Selection(task=task, part="all", seed=0, count=9, mix=mix, excluded=()).prompts()
        rows = list(found)
        assert {entry.place for entry in rows if entry.rollout is None} == {"broken 0", "broken 1", "broken 2"}
        assert len(rows) == 12
    # nor do they take a turn of their domain
    assert [entry.rollout.domain for entry in rows if entry.rollout] == ["code", "math"] * 4 + ["code"]


def test_the_order_of_the_weights_does_not_matter() -> None:
    assert quotas({"math": 1, "code": 1}, 3) == quotas({"code": 1, "math": 1}, 3)
    one, other = (chosen(MIXED, count=31, mix=mix) for mix in ({"math": 1, "code": 1}, {"code": 1, "math": 1}))
    assert one == other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "`prompts` must be at least 1, got 0"),
        ({"count": 501}, "501 prompts are wanted, but there are 500 in the part `all`; ask for fewer with `--prompts`"),
        ({"mix": {"math": 1}}, "shares of domains are shares of a number; say how many prompts are wanted"),
        ({"count": 5, "mix": {"math": 1, "poetry": 1}}, "2 prompts of the domain 'poetry' are wanted, but there are 0"),
        ({"count": 5, "mix": {"math": -1}}, "`domain_mix` needs positive weights"),
        ({"count": 5, "mix": {"math": float("inf")}}, "`domain_mix` needs positive weights"),
        ({"count": 5, "mix": {}}, "`domain_mix` needs positive weights"),
        ({"mix": {}}, "`domain_mix` needs positive weights"),
        ({"task": Listed(rows=()), "count": None}, "the task has no usable prompt in the part `all`"),
        ({"task": Endless(different=3), "count": None}, "this task never ends; say how many"),
    ],
)
def test_what_cannot_be_chosen_is_a_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        chosen(options.pop("task", ROWS), **options)  # type: ignore[arg-type]


def test_a_mix_is_written_with_equals_and_commas() -> None:
    assert parse_mix("math=1, code=2.5") == {"math": 1.0, "code": 2.5}
    for bad in ("math", "math=x", "math=1,,"):
        with pytest.raises(InputError, match="must look like `math=1,code=2`"):
            parse_mix(bad)


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=5), st.integers(1, 300))
def test_a_schedule_is_never_a_whole_prompt_off_its_shares_for_long(weights: list[float], length: int) -> None:
    mix = {str(i): weight for i, weight in enumerate(weights)}
    given_to = Counter(islice(schedule(mix), length))
    for name, weight in mix.items():
        assert abs(given_to[name] - length * weight / sum(weights)) < len(mix)
    fewer, more = quotas(mix, length), quotas(mix, length + 1)
    assert all(more[name] >= number for name, number in fewer.items())
    assert sum(fewer.values()) == length


@given(st.lists(st.integers(0, 2**64 - 1), max_size=300), st.integers(1, 50))
def test_the_smallest_keys_are_the_smallest(keys: list[int], number: int) -> None:
    assert smallest_keys(keys, number).tolist() == sorted(set(keys))[:number]


def test_the_smallest_of_many_keys_are_found_in_pieces() -> None:
    keys = np.random.default_rng(0).permutation(300_000)
    assert smallest_keys(keys.tolist(), 1000).tolist() == list(range(1000))

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenvm.data.collate import Clip, RolloutBatch, collate


def batch(rows: list[tuple[list[int], list[int], bool]], **options: Any) -> RolloutBatch:
    names = ("prompt_ids", "completion_ids", "finished")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    count = len(rows)
    options = {"max_length": None, **options}
    return collate(
        table, row=np.arange(count) + 40, prompt=np.arange(count) + 7, domain=np.zeros(count, int), **options
    )


ROWS = [([10, 11], [20, 21, 3], True), ([12], [22], False), ([13, 14, 15, 16], [3], True)]


def test_labels_by_hand() -> None:
    made = batch(ROWS)
    assert made.input_ids.tolist() == [
        [10, 11, 20, 21, 3, 0, 0, 0],
        [12, 22, 0, 0, 0, 0, 0, 0],
        [13, 14, 15, 16, 3, 0, 0, 0],
    ]
    # state t has its hidden state at index m - 1 + t: the first one is the last prompt token
    assert made.flat_index.tolist() == [1, 2, 3, 8, 16 + 3]
    assert made.states.remaining.tolist() == [3, 2, 1, 1, 1]
    assert made.states.trajectory.tolist() == [0, 0, 0, 1, 2]
    assert made.states.next_ids.tolist() == [20, 21, 3, 22, 3]
    assert made.states.censored.tolist() == [False, False, False, True, False]
    assert made.position.tolist() == [0, 1, 2, 0, 0]
    assert made.length.tolist() == [3, 1, 1]
    assert (made.row.tolist(), made.prompt.tolist(), made.domain.tolist()) == ([40, 41, 42], [7, 8, 9], [0, 0, 0])


def test_the_terminal_state_is_included_when_asked_for() -> None:
    made = batch(ROWS, include_terminal=True)
    assert made.flat_index.tolist() == [1, 2, 3, 4, 8, 9, 19, 20]
    assert made.states.remaining.tolist() == [3, 2, 1, 0, 1, 0, 1, 0]
    assert made.states.next_ids.tolist() == [20, 21, 3, -1, 22, -1, 3, -1]
    assert made.position.tolist() == [0, 1, 2, 3, 0, 1, 0, 1]


def test_clipping_on_the_left_keeps_the_end_and_the_true_remaining() -> None:
    made = batch([([10, 11, 12], [20, 21, 22, 3], True)], max_length=4)
    assert made.input_ids.tolist() == [[20, 21, 22, 3]]
    assert made.position.tolist() == [1, 2, 3]
    assert made.states.remaining.tolist() == [3, 2, 1]
    assert made.flat_index.tolist() == [0, 1, 2]
    assert made.length.tolist() == [4]


def test_clipping_on_the_left_that_only_touches_the_prompt_keeps_all_states() -> None:
    made = batch([([10, 11, 12], [20, 21, 22, 3], True)], max_length=5)
    assert made.input_ids.tolist() == [[12, 20, 21, 22, 3]]
    assert made.position.tolist() == [0, 1, 2, 3]
    assert made.flat_index.tolist() == [0, 1, 2, 3]


def test_clipping_on_the_right_keeps_the_beginning_and_the_true_remaining() -> None:
    made = batch([([10, 11, 12], [20, 21, 22, 3], True)], max_length=4, clip="right")
    assert made.input_ids.tolist() == [[10, 11, 12, 20]]
    assert made.position.tolist() == [0, 1]
    assert made.states.remaining.tolist() == [4, 3]
    assert made.states.next_ids.tolist() == [20, 21]
    assert made.flat_index.tolist() == [2, 3]


def test_clipping_on_the_right_below_the_prompt_leaves_no_state() -> None:
    made = batch([([10, 11, 12], [20, 3], True), ([5], [6, 3], True)], max_length=2, clip="right")
    assert made.input_ids.tolist() == [[10, 11], [5, 6]]
    assert made.states.trajectory.tolist() == [1, 1]


def test_only_long_rows_are_clipped() -> None:
    made = batch([([10], [20, 3], True), ([11, 12, 13], [21, 22, 3], True)], max_length=5)
    assert made.input_ids.tolist() == [[10, 20, 3, 0, 0], [12, 13, 21, 22, 3]]
    assert made.states.remaining.tolist() == [2, 1, 3, 2, 1]


def test_all_columns_have_integer_types_that_index() -> None:
    made = batch(ROWS)
    columns = [made.input_ids, made.flat_index, made.position, made.length, made.row, made.prompt, made.domain]
    assert {column.dtype for column in [*columns, *made.states[:3]]} == {torch.int64}
    assert made.states.censored.dtype == torch.bool


row = st.tuples(st.integers(1, 12), st.integers(1, 30), st.booleans())


@given(
    sizes=st.lists(row, min_size=1, max_size=5),
    max_length=st.one_of(st.none(), st.integers(2, 40)),
    clip=st.sampled_from(["left", "right"]),
    terminal=st.booleans(),
)
def test_every_state_in_the_window_is_there_once_where_its_last_token_is(
    sizes: list[tuple[int, int, bool]], max_length: int | None, clip: Clip, terminal: bool
) -> None:
    # every token of every row has an id of its own, so that ids tell where things came from
    rows, fresh = [], iter(range(1, 10_000))
    for m, length, finished in sizes:
        rows.append(([next(fresh) for _ in range(m)], [next(fresh) for _ in range(length)], finished))
    made = batch(rows, max_length=max_length, clip=clip, include_terminal=terminal)
    expected = []
    for b, (prompt, completion, finished) in enumerate(rows):
        ids, m, length = prompt + completion, len(prompt), len(completion)
        kept = len(ids) if max_length is None else min(len(ids), max_length)
        start = len(ids) - kept if clip == "left" else 0
        assert made.input_ids[b, :kept].tolist() == ids[start : start + kept]
        assert (made.input_ids[b, kept:] == 0).all()
        for t in range(length + terminal):
            if start <= m - 1 + t < start + kept:
                following = completion[t] if t < length else -1
                expected.append((ids[m - 1 + t], b, t, length - t, following, not finished))
    states = made.states
    columns = (
        made.input_ids.flatten()[made.flat_index],
        states.trajectory,
        made.position,
        states.remaining,
        states.next_ids,
        states.censored,
    )
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
    longest = max(m + n for m, n, _ in sizes)
    width = made.input_ids.shape[1]
    assert width <= max_length if max_length is not None else width < longest + 8

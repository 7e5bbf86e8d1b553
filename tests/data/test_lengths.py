from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

import lenvm.data.lengths
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.lengths import NO_DOMAIN, CompletionLengths, read_lengths
from lenvm.data.rollout import parse_rollout
from lenvm.data.store import open_store
from lenvm.data.writing import write_rollouts
from lenvm.errors import InputError

Write = Callable[..., Path]


def varied(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for i, row in enumerate(rows):
        row["finish_reason"] = "length" if i % 5 == 0 else "stop"
        if i % 3:
            row["domain"] = ("math", "é")[i % 2]
    return rows


def same(one: CompletionLengths, two: CompletionLengths) -> bool:
    names = [[x.domains[i] for i in x.domain] for x in (one, two)]
    arrays = ("length", "finished", "prompt")
    return names[0] == names[1] and all(np.array_equal(getattr(one, a), getattr(two, a)) for a in arrays)


def test_columns_say_the_same_as_rows(
    tmp_path: Path, write_json_lines: Write, id_rows: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = varied(id_rows(40, 3))
    lines = read_lengths([write_json_lines(rows)], None)
    assert lines.length.tolist() == [len(row["completion_ids"]) for row in rows]
    assert lines.finished.tolist() == [row["finish_reason"] == "stop" for row in rows]
    assert len(np.unique(lines.prompt)) == 40
    assert [lines.domains[i] for i in lines.domain] == [row.get("domain", NO_DOMAIN) for row in rows]

    shards = [write_rollouts(map(parse_rollout, part), tmp_path / f"{i}.parquet") for i, part in
              enumerate((rows[:50], rows[50:]))]  # fmt: skip
    monkeypatch.setattr(lenvm.data.lengths, "_COLUMN_ROWS", 7)
    monkeypatch.setattr(lenvm.data.lengths, "_from_rows", None)  # Parquet with ids is not read row by row
    assert same(read_lengths(shards, None), lines)


def test_text_has_the_lengths_that_training_sees(
    tmp_path: Path, rollout_file: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    encoder = RolloutEncoder(tokenizer)
    store, _ = open_store([str(rollout_file)], encoder, cache_dir=tmp_path)
    lengths = read_lengths([rollout_file], encoder)
    assert lengths.length.tolist() == [len(ids) for ids in store.data.table["completion_ids"].to_pylist()]


def test_rows_without_a_prompt_id_are_grouped_by_their_prompt(tmp_path: Path) -> None:
    table = pa.table({"prompt_ids": [[1], [2], [1]], "completion_ids": [[5, 3], [3], [6, 7, 3]]})
    pq.write_table(table, tmp_path / "a.parquet")
    lengths = read_lengths([tmp_path / "a.parquet"], None)
    assert lengths.length.tolist() == [2, 1, 3]
    assert lengths.finished.all()
    assert lengths.prompt[0] == lengths.prompt[2] != lengths.prompt[1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"completion_ids": [[5], []]}, "row 1: `completion_ids` must be a list with at least one token id"),
        ({"completion_ids": [[5], None]}, "row 1: token ids and text are mixed"),
        ({"prompt_ids": [None, [5]]}, "row 0: token ids and text are mixed"),
        ({"completion_ids": [[5], [5, -1]]}, "row 1: `completion_ids` must hold non-negative integers"),
        ({"completion_ids": [[5], [5, None]]}, "row 1: `completion_ids` must hold non-negative integers"),
        ({"finish_reason": ["stop", "error"]}, "row 1: `finish_reason` must be `stop` or `length`"),
        ({"promt": ["a", "b"]}, "row 0: unknown field 'promt'"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_a_bad_row_of_parquet_is_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    columns = {"prompt_ids": [[1], [2]], "completion_ids": [[3], [3]], "prompt_id": ["a", "b"], **change}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError) as raised:
        read_lengths([tmp_path / "a.parquet"], None)
    assert sentence in str(raised.value)


def test_what_cannot_be_read_is_one_sentence(
    tmp_path: Path, write_json_lines: Write, tokenizer: PreTrainedTokenizerBase
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"a\.parquet, row 0: the Parquet file is damaged"):
        read_lengths([tmp_path / "a.parquet"], None)
    text = write_json_lines([{"prompt": "a", "completion": "b"}, r'{"prompt": "a", "completion": "\ud800"}'])
    with pytest.raises(InputError, match=r"rows\.jsonl:1 has text but no token ids.*name the generator's with `--tok"):
        read_lengths([text], None)
    with pytest.raises(InputError, match=r"rows\.jsonl:2: the text is not valid Unicode at character 0; mend the row"):
        read_lengths([text], RolloutEncoder(tokenizer))
    with pytest.raises(InputError, match="is empty: expected at least one rollout row"):
        read_lengths([write_rollouts([], tmp_path / "b.parquet")], None)

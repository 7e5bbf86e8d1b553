from __future__ import annotations

import gzip
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from transformers import PreTrainedTokenizerBase

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Rollout
from lenvm.data.store import StoreReport, open_store
from lenvm.data.tokenizer import fingerprint
from lenvm.data.writing import write_rollouts
from lenvm.errors import InputError

GOOD = {"prompt": "What is 1+1?", "completion": "2", "prompt_id": "p", "domain": "math"}
Write = Callable[..., Path]


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerBase) -> RolloutEncoder:
    return RolloutEncoder(tokenizer)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def open_rows(path: Path, encoder: RolloutEncoder, cache: Path, **options: Any) -> tuple[pa.Table, StoreReport]:
    store, report = open_store([str(path)], encoder, cache_dir=cache, **options)
    return store.data.table, report


def written(cache: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every file: a file that is written again gets a new inode."""
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in cache.iterdir()}


def test_rows_are_encoded_once_with_what_training_needs(
    encoder: RolloutEncoder, cache: Path, write_json_lines: Write
) -> None:
    rows = [GOOD, {"prompt": "b", "completion": "3,4", "finish_reason": "length", "prompt_id": 7}]
    table, report = open_rows(write_json_lines(rows), encoder, cache)
    tokenizer = encoder.tokenizer
    assert table.to_pylist() == [
        {
            "prompt_ids": tokenizer("What is 1+1?").input_ids,
            "completion_ids": [*tokenizer("2").input_ids, tokenizer.eos_token_id],
            "finished": True,
            "prompt_id": "p",
            "domain": "math",
        },
        {
            "prompt_ids": tokenizer("b").input_ids,
            "completion_ids": tokenizer("3,4").input_ids,
            "finished": False,
            "prompt_id": "7",
            "domain": "all",
        },
    ]
    assert report == StoreReport(rows=2, censored=1)


def test_the_store_is_memory_mapped_from_the_cache(
    encoder: RolloutEncoder, cache: Path, write_json_lines: Write
) -> None:
    before = pa.total_allocated_bytes()
    path = write_json_lines([{**GOOD, "completion": "1," * 500}] * 300)
    store, _ = open_store([str(path)], encoder, cache_dir=cache)
    assert [Path(f["filename"]).parent for f in store.cache_files] == [cache]
    assert store.data.nbytes > 1_000_000
    assert pa.total_allocated_bytes() - before < store.data.nbytes / 10


def test_a_second_open_finds_the_cache_and_writes_nothing(
    encoder: RolloutEncoder, cache: Path, write_json_lines: Write
) -> None:
    path = write_json_lines([GOOD, {"completion": "no prompt"}])
    first, first_report = open_rows(path, encoder, cache, on_bad_row="skip")
    files = written(cache)
    second, second_report = open_rows(path, encoder, cache, on_bad_row="skip")
    assert written(cache) == files
    assert len(files) == 2
    assert second.equals(first)
    assert second_report == first_report


def test_whatever_changes_the_ids_makes_another_cache_file(
    tokenizer: PreTrainedTokenizerBase, cache: Path, write_json_lines: Write
) -> None:
    path = write_json_lines([GOOD])
    variants: list[dict[str, Any]] = [
        {},
        {"on_bad_row": "skip"},
        {"columns": {"prompt": "prompt", "completion": "completion"}},
        {"encoder": RolloutEncoder(tokenizer, "chat")},
        {"encoder": RolloutEncoder(tokenizer, max_length=50)},
    ]
    for count, options in enumerate(variants, 1):
        open_rows(path, **{"encoder": RolloutEncoder(tokenizer), "cache": cache, **options})
        assert len(list(cache.glob("*.arrow"))) == count


def test_a_changed_file_is_read_again(encoder: RolloutEncoder, cache: Path, write_json_lines: Write) -> None:
    path = write_json_lines([GOOD])
    open_rows(path, encoder, cache)
    stamp = path.stat().st_mtime_ns
    write_json_lines([{**GOOD, "prompt_id": "q"}])  # equally long
    os.utime(path, ns=(stamp + 1, stamp + 1))
    table, _ = open_rows(path, encoder, cache)
    assert table["prompt_id"].to_pylist() == ["q"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"prompt": "x", "compl', "not valid JSON"),
        ({"prompt": "x"}, "no `completion`"),
        ({**GOOD, "speed": 3}, "unknown field 'speed'"),
        ({"prompt_ids": [1], "completion_ids": [2]}, "token ids and text are mixed"),
        ({**GOOD, "prompt_ids": [1]}, "token ids and text are mixed"),
        ({**GOOD, "prompt": "x" * 4000}, "fills the context"),
    ],
)
def test_a_bad_row_stops_with_file_and_line_and_leaves_nothing(
    tokenizer: PreTrainedTokenizerBase, cache: Path, write_json_lines: Write, bad: Any, message: str
) -> None:
    path = write_json_lines([GOOD, GOOD, bad, GOOD])
    with pytest.raises(InputError, match=message) as caught:
        open_rows(path, RolloutEncoder(tokenizer, max_length=512), cache)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "--on-bad-row skip" in str(caught.value)
    assert list(cache.iterdir()) == []


def test_a_bad_row_beyond_the_first_chunk_is_named_by_its_own_line(
    encoder: RolloutEncoder, cache: Path, write_json_lines: Write
) -> None:
    path = write_json_lines([GOOD] * 700 + ["{"] + [GOOD] * 5)
    with pytest.raises(InputError) as caught:
        open_rows(path, encoder, cache)
    assert str(caught.value).startswith(f"{path}:701: ")


def test_skipping_counts_bad_rows_by_reason_and_keeps_the_good_ones_in_order(
    tokenizer: PreTrainedTokenizerBase, cache: Path, write_json_lines: Write
) -> None:
    rows: list[Any] = [
        GOOD,
        "{",
        {**GOOD, "prompt_id": "q"},
        {"prompt": "x"},
        "[",
        {**GOOD, "prompt": "x" * 4000},
        {**GOOD, "prompt_id": "r", "finish_reason": "length"},
    ]
    path = write_json_lines(rows)
    table, report = open_rows(path, RolloutEncoder(tokenizer, max_length=512), cache, on_bad_row="skip")
    assert table["prompt_id"].to_pylist() == ["p", "q", "r"]
    assert (report.rows, report.censored, report.skipped.total()) == (3, 1, 4)
    assert report.skipped["not valid JSON"] == 2
    assert report.skipped["no `completion`"] == 1
    assert str(report.first_skipped).startswith(f"{path}:2: not valid JSON")


def test_many_faults_of_one_kind_are_one_reason(
    tokenizer: PreTrainedTokenizerBase, cache: Path, write_json_lines: Write
) -> None:
    # a count per reason is only of use if the reason does not hold the row's own numbers
    path = write_json_lines([GOOD] + ["{" + '"a":' * n for n in range(5)])
    _, report = open_rows(path, RolloutEncoder(tokenizer), cache, on_bad_row="skip")
    assert dict(report.skipped) == {"not valid JSON": 5}


def test_a_damaged_gzip_loses_only_what_is_behind_the_damage(
    encoder: RolloutEncoder, cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl.gz"
    rows = [json.dumps({**GOOD, "prompt_id": os.urandom(8).hex()}) + "\n" for _ in range(1500)]
    packed = gzip.compress("".join(rows).encode())
    path.write_bytes(packed[: len(packed) // 2])
    table, report = open_rows(path, encoder, cache, on_bad_row="skip")
    assert 100 < report.rows < 1500
    assert table["prompt_id"].to_pylist() == [json.loads(row)["prompt_id"] for row in rows[: report.rows]]
    assert dict(report.skipped) == {"the gzip stream is damaged": 1}
    with pytest.raises(InputError, match=rf"rows\.jsonl\.gz:{report.rows + 1}: the gzip stream is damaged"):
        open_rows(path, encoder, cache)


def test_no_usable_row_is_an_error_also_from_the_cache(
    encoder: RolloutEncoder, cache: Path, write_json_lines: Write
) -> None:
    path = write_json_lines(["{", {"prompt": "x"}])
    for _ in range(2):
        with pytest.raises(InputError, match=r"no usable row in .*the first problem was: .*:1: not valid JSON"):
            open_rows(path, encoder, cache, on_bad_row="skip")


def test_an_empty_file_is_an_error_and_leaves_nothing(
    encoder: RolloutEncoder, cache: Path, write_json_lines: Write
) -> None:
    with pytest.raises(InputError, match="is empty"):
        open_rows(write_json_lines([]), encoder, cache)
    assert list(cache.iterdir()) == []


def test_a_missing_column_stops_with_file_and_line(
    encoder: RolloutEncoder, cache: Path, write_json_lines: Write
) -> None:
    path = write_json_lines([{"q": "a", "a": "b"}, {"q": "a"}])
    with pytest.raises(InputError, match=r":2: column 'a' is missing; present: q"):
        open_rows(path, encoder, cache, columns={"prompt": "q", "completion": "a"})


def test_several_sources_are_one_store_and_a_missing_one_is_named(
    encoder: RolloutEncoder, cache: Path, write_json_lines: Write
) -> None:
    first, second = write_json_lines([GOOD], "a.jsonl"), write_json_lines([{**GOOD, "prompt_id": "q"}], "b.jsonl")
    store, report = open_store([str(second), str(first)], encoder, cache_dir=cache)
    assert store.data.table["prompt_id"].to_pylist() == ["q", "p"]
    assert report.rows == 2
    with pytest.raises(InputError, match=r"missing\.jsonl does not exist; expected files or folders"):
        open_store([str(first), str(first.with_name("missing.jsonl"))], encoder, cache_dir=cache)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The kernel refuses to write beyond `size` bytes, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_and_leaves_nothing(
    encoder: RolloutEncoder, cache: Path, write_json_lines: Write
) -> None:
    path = write_json_lines([{**GOOD, "completion": "1," * 500}] * 100)
    with files_limited_to(20_000), pytest.raises(InputError, match=r"could not write the encoded rollouts to .*cache"):
        open_rows(path, encoder, cache)
    assert list(cache.iterdir()) == []
    assert open_rows(path, encoder, cache)[1].rows == 100


def test_a_cache_folder_that_cannot_be_made_is_an_error(
    encoder: RolloutEncoder, tmp_path: Path, write_json_lines: Write
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="could not write the encoded rollouts to"):
        open_rows(write_json_lines([GOOD]), encoder, tmp_path / "file" / "cache")


def shard(tmp_path: Path, facts: dict[str, Any] | None, **row: Any) -> Path:
    ids = row or {"prompt_ids": [5, 6], "completion_ids": [7, 3]}
    return write_rollouts([Rollout(prompt_id="p", **ids)], tmp_path / "shard.parquet", facts=facts)


def test_token_ids_of_another_tokenizer_are_refused(encoder: RolloutEncoder, cache: Path, tmp_path: Path) -> None:
    path = shard(tmp_path, {"tokenizer": "feedfeedfeedfeed", "generator": "org/model"})
    mine = fingerprint(encoder.tokenizer)
    sentence = (
        rf"{path} was sampled with the tokenizer feedfeedfeedfeed \(of org/model\), but the tokenizer given is {mine} "
        r"\(.*\), .* give the generator's with `--data\.tokenizer`, or sample anew\."
    )
    columns = {name: name for name in ("prompt_ids", "completion_ids")}
    for options in ({}, {"on_bad_row": "skip"}, {"columns": columns}):
        with pytest.raises(InputError, match=sentence):
            open_rows(path, encoder, cache, **options)


def test_ids_of_the_same_or_an_unknown_tokenizer_and_texts_are_taken(
    encoder: RolloutEncoder, cache: Path, tmp_path: Path
) -> None:
    for facts in (None, {}, {"tokenizer": None}, {"tokenizer": fingerprint(encoder.tokenizer)}):
        assert open_rows(shard(tmp_path, facts), encoder, cache)[1].rows == 1
    text = {"prompt": "What is 1+1?", "completion": "2"}
    assert open_rows(shard(tmp_path, {"tokenizer": "feed"}, **text), encoder, cache)[1].rows == 1
    both = {**text, "prompt_ids": [5, 6], "completion_ids": [7, 3]}
    path = shard(tmp_path, {"tokenizer": "feed"}, **both)
    columns = {"prompt": "prompt", "completion": "completion"}
    assert open_rows(path, encoder, cache, columns=columns)[1].rows == 1

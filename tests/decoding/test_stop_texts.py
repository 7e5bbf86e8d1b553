"""Stop texts: each completion is what it would be without them, up to the token that completes the first one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lenvm.data.rollout import Rollout
from lenvm.decoding.generate import generate
from lenvm.decoding.loop import Row, decode
from lenvm.decoding.settings import SamplingSettings, cut_at_stop
from lenvm.errors import InputError
from lenvm.rollout import SamplingRequest, TransformersSampler, strictly

EOS = 3
FREE = SamplingSettings(max_tokens=60, temperature=1.2)
STOPS = [("Answer",), ("=",), (" 2",), ("s the", "er: 1", "xyz"), ("er", "Answer"), ("+5=", "never written"), ("3",)]


@pytest.fixture(scope="module")
def free(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]]) -> list[Rollout]:
    """What is written without stop texts."""
    return written(policy, tokenizer, prompt_ids, FREE)


def written(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: list[list[int]],
    settings: SamplingSettings,
    batch_size: int = 64,
) -> list[Rollout]:
    requests = [
        SamplingRequest(ids, Rollout(prompt_ids=ids, prompt_id=f"p{i}"), tuple(range(6)))
        for i, ids in enumerate(prompt_ids)
    ]
    rows = strictly(TransformersSampler(policy, tokenizer, settings, batch_size).sample(requests))
    return sorted(rows, key=lambda row: (row.prompt_id, (row.metadata or {})["sample"]))


def expected(row: Rollout, stop: tuple[str, ...], tokenizer: PreTrainedTokenizerBase, limit: int) -> Rollout:
    """Read token by token, without any cleverness."""
    ids = row.completion_ids or []
    for length in range(1, min(len(ids), limit) + 1):
        text = str(tokenizer.decode(ids[:length]))
        if ids[length - 1] == EOS:
            return row
        found = [end for end in stop if end in text]
        if found:
            first = min(found, key=lambda end: (text.index(end), end))
            metadata = {**(row.metadata or {}), "stop": first}
            text = text[: text.index(first)]
            return replace(row, completion_ids=ids[:length], completion=text, finish_reason="stop", metadata=metadata)
    return replace(
        row, completion_ids=ids[:limit], completion=str(tokenizer.decode(ids[:limit])), finish_reason="length"
    )


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("limit", [60, 17])
def test_a_completion_ends_with_the_token_that_completes_a_stop_text(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: list[list[int]],
    free: list[Rollout],
    stop: tuple[str, ...],
    limit: int,
) -> None:
    settings = replace(FREE, stop=stop, max_tokens=limit)
    rows = written(policy, tokenizer, prompt_ids, settings)
    assert rows == [expected(row, stop, tokenizer, limit) for row in free]
    assert rows == written(policy, tokenizer, prompt_ids, settings, batch_size=5)
    assert any("stop" in (row.metadata or {}) for row in rows)
    for row in rows:
        assert (row.completion_ids or [])[-1] == EOS or row.finish_reason == "length" or (row.metadata or {})["stop"]
        assert not any(end in (row.completion or "") for end in stop)


def test_what_ends_exactly_at_the_limit_has_ended_by_itself(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]], free: list[Rollout]
) -> None:
    ended = min((row for row in free if row.finish_reason == "stop"), key=lambda row: len(row.completion_ids or []))
    length = len(ended.completion_ids or [])
    place = free.index(ended)
    for limit, reason in ((length, "stop"), (length - 1, "length")):
        row = written(policy, tokenizer, prompt_ids, replace(FREE, max_tokens=limit))[place]
        assert (row.completion_ids, row.finish_reason) == ((ended.completion_ids or [])[:limit], reason)
        assert ((row.completion_ids or [])[-1] == EOS) == (reason == "stop")
    stop = ("Answer",)
    stopped = next(
        row
        for row in written(policy, tokenizer, prompt_ids, replace(FREE, stop=stop))
        if (row.metadata or {}).get("stop")
    )
    length = len(stopped.completion_ids or [])
    rows = written(policy, tokenizer, prompt_ids, replace(FREE, stop=stop, max_tokens=length))
    assert stopped in rows
    cut = written(policy, tokenizer, prompt_ids, replace(FREE, stop=stop, max_tokens=length - 1))[rows.index(stopped)]
    assert cut.finish_reason == "length"
    assert "stop" not in (cut.metadata or {})


def test_a_cut_completion_stays_cut_while_it_waits_for_others(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]]
) -> None:
    settings = replace(FREE, temperature=0)
    rows = written(policy, tokenizer, prompt_ids, settings)[::6]
    shortest, *_, longest = sorted(range(len(rows)), key=lambda i: len(rows[i].completion_ids or []))
    ids = rows[shortest].completion_ids or []
    assert ids[-1] == EOS
    assert len(rows[longest].completion_ids or []) > len(ids) + 1
    # it has no room for its last token, but goes on in the batch until enough others have ended
    batch = [Row(shortest, "cut", len(ids) - 1), *[Row(longest, "long", 60)] * 6]
    (cut,) = [done for done in decode(policy, prompt_ids, batch, [EOS], settings) if done.row == 0]
    assert (cut.ids, cut.finished) == (ids[:-1], False)


def test_generate_stops_too(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]]
) -> None:
    settings = replace(FREE, stop=("Answer",))
    plain = generate(policy, tokenizer, None, prompt_ids, sampling=FREE, num_samples=3)
    ended = generate(policy, tokenizer, None, prompt_ids, sampling=settings, num_samples=3)
    assert any(len(c.ids) < len(p.ids) for c, p in zip(ended, plain, strict=True))
    for c, p in zip(ended, plain, strict=True):
        assert c.ids == p.ids[: len(c.ids)]
        assert c.text == p.text.partition("Answer")[0]
        if c.ids != p.ids:
            assert c.finish_reason == "stop"


def test_the_stop_text_that_comes_first_counts() -> None:
    assert cut_at_stop("one two three", ["three", "two"]) == ("two", "one ")
    assert cut_at_stop("one two", ["two three"]) == (None, "one two")
    assert cut_at_stop("one", []) == (None, "one")
    for wrong in ("text", ("",)):
        with pytest.raises(InputError, match="`stop` must be a list of texts, none of them empty"):
            SamplingSettings(stop=wrong)  # type: ignore[arg-type]

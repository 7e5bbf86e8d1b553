from __future__ import annotations

from typing import Any

import pytest

from lenvm.data.rollout import FIELDS, BadRowError, Rollout, parse_prompt, parse_rollout, prompt_hash

TEXT = {"prompt": "What is 1+1?", "completion": "2"}
IDS = {"prompt_ids": [5, 6], "completion_ids": [7, 3]}
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**TEXT, "complection": "x"}, "unknown field 'complection'; a rollout row may have prompt, completion"),
        ({}, "no `prompt`"),
        ({"completion": "x"}, "no `prompt`"),
        ({"prompt": "", "completion": "x"}, "empty `prompt`"),
        ({"prompt": [], "completion": "x"}, "`prompt` must be a text or a list of messages"),
        ({"prompt": 7, "completion": "x"}, "`prompt` must be a text or a list of messages, got 7"),
        ({"prompt": {"role": "user", "content": "hi"}, "completion": "x"}, "`prompt` must be a text or a list"),
        ({"prompt": ["hi"], "completion": "x"}, "a message of `prompt` needs `role` and `content`, got 'hi'"),
        ({"prompt": [{"role": "user"}], "completion": "x"}, "needs `role` and `content`"),
        ({"prompt": [{"content": "hi"}], "completion": "x"}, "needs `role` and `content`"),
        ({"prompt": [{"role": 1, "content": "hi"}], "completion": "x"}, "needs `role` and `content`"),
        ({"prompt": "hi"}, "no `completion`: expected a text, got None"),
        ({"prompt": "hi", "completion": None}, "no `completion`: expected a text, got None"),
        ({"prompt": "hi", "completion": 12}, "no `completion`: expected a text, got 12"),
        ({"prompt": "hi", "completion": "", "finish_reason": "length"}, "says nothing about length"),
        ({**TEXT, "finish_reason": "eos"}, "`finish_reason` must be `stop` or `length`, got 'eos'"),
        ({**TEXT, "finish_reason": ["stop"]}, "`finish_reason` must be `stop` or `length`"),
        ({"prompt_ids": [1], "completion": "x"}, "token ids and text are mixed"),
        ({"prompt": "hi", "completion_ids": [1]}, "token ids and text are mixed"),
        ({"prompt_ids": [], "completion_ids": [1]}, "`prompt_ids` must be a list with at least one token id"),
        ({"prompt_ids": [1], "completion_ids": []}, "`completion_ids` must be a list with at least one token id"),
        ({"prompt_ids": "12", "completion_ids": [1]}, "`prompt_ids` must be a list with at least one token id"),
        ({"prompt_ids": [1, -1], "completion_ids": [1]}, "`prompt_ids` must hold non-negative integers"),
        ({"prompt_ids": [1], "completion_ids": [1.0]}, "`completion_ids` must hold non-negative integers"),
        ({"prompt_ids": [1], "completion_ids": [True]}, "`completion_ids` must hold non-negative integers"),
        ({"prompt_ids": [1], "completion_ids": ["a"]}, "`completion_ids` must hold non-negative integers"),
    ],
)
def test_a_bad_row_is_refused_with_its_first_fault(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRowError, match=message):
        parse_rollout(row)


def test_a_long_faulty_value_is_cut_in_the_message() -> None:
    with pytest.raises(BadRowError) as caught:
        parse_rollout({"prompt_ids": [-1] * 10_000, "completion_ids": [1]})
    assert len(str(caught.value)) < 200


def test_defaults_of_a_text_row() -> None:
    assert parse_rollout(TEXT) == Rollout(**TEXT, prompt_id=prompt_hash(TEXT["prompt"]))
    rollout = parse_rollout(TEXT)
    assert (rollout.finish_reason, rollout.has_ids) == ("stop", False)
    assert rollout.domain is rollout.reference is rollout.images is rollout.metadata is None


def test_defaults_of_a_row_of_ids() -> None:
    rollout = parse_rollout(IDS)
    assert (rollout.prompt_ids, rollout.completion_ids, rollout.has_ids) == ([5, 6], [7, 3], True)
    assert rollout.prompt_id == prompt_hash([5, 6])


def test_null_counts_as_absent() -> None:
    assert parse_rollout({**dict.fromkeys(FIELDS), **TEXT}) == parse_rollout(TEXT)
    assert parse_rollout({**dict.fromkeys(FIELDS), **IDS}) == parse_rollout(IDS)


def test_every_field_of_the_contract_is_kept() -> None:
    row = {
        "prompt": MESSAGES,
        "completion": "2",
        **IDS,
        "prompt_id": "a/1",
        "finish_reason": "length",
        "domain": "math",
        "reference": "2",
        "images": ["a.png"],
        "metadata": {"k": [1, {"x": None}]},
    }
    assert set(row) == set(FIELDS)
    assert vars(parse_rollout(row)) == row


def test_numbers_serve_as_identifiers() -> None:
    rollout = parse_rollout({**TEXT, "prompt_id": 12, "domain": 3, "reference": 4.5})
    assert (rollout.prompt_id, rollout.domain, rollout.reference) == ("12", "3", "4.5")


def test_a_finished_completion_may_be_empty() -> None:
    assert parse_rollout({"prompt": "hi", "completion": ""}).completion == ""


def test_equal_prompts_have_equal_hashes_and_others_do_not() -> None:
    one = prompt_hash([{"role": "user", "content": "hi"}])
    assert prompt_hash([{"content": "hi", "role": "user"}]) == one
    others = ["hi", [{"role": "system", "content": "hi"}], [{"role": "user", "content": "ho"}], [1, 2], [12], "ho"]
    assert len({one, *map(prompt_hash, others)}) == 7  # type: ignore[arg-type]
    assert prompt_hash("hi") == prompt_hash("hi")


def test_a_prompt_hash_never_changes_since_splits_depend_on_it() -> None:
    assert prompt_hash("What is 1+1?") == "31adf3e245f99d7b"


def test_half_a_surrogate_pair_can_be_hashed() -> None:
    assert len(prompt_hash("\ud83d")) == 16


def test_a_prompt_row_needs_only_a_prompt_and_loses_its_completion() -> None:
    asked = parse_prompt({"prompt": MESSAGES, "completion": "x", "anything": 1, "domain": "math", "reference": "2"})
    assert asked == Rollout(prompt=MESSAGES, prompt_id=prompt_hash(MESSAGES), domain="math", reference="2")


@pytest.mark.parametrize(
    ("row", "message"),
    [({"text": "x"}, "no `prompt`; present: text"), ({}, "present: nothing"), ({"prompt": ""}, "empty `prompt`")],
)
def test_a_prompt_row_without_a_prompt_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRowError, match=message):
        parse_prompt(row)

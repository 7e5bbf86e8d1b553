from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenvm.data.prompt_set import PromptSet
from lenvm.errors import InputError


@given(st.lists(st.text(max_size=8), max_size=40), st.lists(st.text(max_size=8), max_size=10))
def test_a_set_comes_back_from_its_text_and_knows_its_members(members: list[str], others: list[str]) -> None:
    known = PromptSet.from_text(PromptSet.of(members).to_text())
    assert len(known) == len(set(members))
    assert known.among(members) == members
    assert known.among(others) == [other for other in others if other in members]


def test_a_hundred_thousand_prompts_take_about_five_bytes_each() -> None:
    ids = [f"prompt {i}" for i in range(100_000)]
    known = PromptSet.of(ids)
    text = known.to_text()
    assert text.isascii()
    assert len(text) < 6 * len(ids)
    assert PromptSet.from_text(text).among([*ids[:5], "another"]) == ids[:5]


def test_the_text_of_a_set_does_not_depend_on_the_order() -> None:
    assert PromptSet.of(["a", "b", "a"]).to_text() == PromptSet.of(["b", "a"]).to_text()


@pytest.mark.parametrize("text", ["not base64!", "AAAA", PromptSet.of(["a", "b"]).to_text()[:-4]])
def test_a_damaged_text_is_a_sentence(text: str) -> None:
    with pytest.raises(InputError, match=r"`training_prompts` of the model's config\.json is damaged"):
        PromptSet.from_text(text)

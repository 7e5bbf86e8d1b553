from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from lenvm.view.pieces import Piece, PieceReader, pieces


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return found


def byte_id(tokenizer: PreTrainedTokenizerBase, character: str, place: int) -> int:
    return ids(tokenizer, character)[place]


@pytest.mark.parametrize("text", ["好", "👩", "é"])
def test_tokens_that_only_together_make_a_character_are_one_piece(
    tokenizer: PreTrainedTokenizerBase, text: str
) -> None:
    count = len(ids(tokenizer, text))
    assert count > 1
    before, after = ids(tokenizer, "a"), ids(tokenizer, ".")
    found = pieces([*before, *ids(tokenizer, text), *after], tokenizer)
    assert found == [Piece("a", 1, False), Piece(text, count, False), Piece(".", 1, False)]


def test_a_token_of_whole_characters_is_a_piece_of_its_own(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "Let me solve this step by step.\n\tSo"
    found = pieces(ids(tokenizer, text), tokenizer)
    assert [p.tokens for p in found] == [1] * len(found)
    assert "".join(p.text for p in found) == text


def test_bytes_that_make_no_character_stand_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    stray = byte_id(tokenizer, "好", 1)
    found = pieces([stray, *ids(tokenizer, "abc")], tokenizer)
    assert found[0] == Piece("\ufffd", 1, False)
    assert "".join(p.text for p in found[1:]) == "abc"


def test_a_character_that_is_cut_at_the_end_is_shown_as_broken(tokenizer: PreTrainedTokenizerBase) -> None:
    begun = ids(tokenizer, "👩")[:2]
    found = pieces([*ids(tokenizer, "a"), *begun], tokenizer)
    assert [p.tokens for p in found] == [1, 1, 1]
    assert found[-1].text == "\ufffd"


def test_a_control_token_is_marked_and_breaks_what_was_begun(tokenizer: PreTrainedTokenizerBase) -> None:
    end = tokenizer.eos_token_id
    found = pieces([*ids(tokenizer, "好")[:1], end], tokenizer)
    assert found == [Piece("\ufffd", 1, False), Piece(str(tokenizer.eos_token), 1, True)]


def test_pieces_come_as_soon_as_they_are_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    reader = PieceReader(tokenizer)
    *begun, last = ids(tokenizer, "好")
    assert [reader.push(i) for i in begun] == [[]] * len(begun)
    assert reader.push(last) == [Piece("好", len(begun) + 1, False)]
    assert reader.flush() == []


@given(st.lists(st.integers(0, 500), max_size=40))
def test_any_ids_are_covered_once_and_in_order(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> None:
    found = pieces(tokens, tokenizer)
    assert sum(p.tokens for p in found) == len(tokens)
    assert all(p.text for p in found)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=40))
def test_any_text_is_shown_as_written(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    found = pieces(ids(tokenizer, text), tokenizer)
    assert "".join(p.text for p in found) == tokenizer.decode(ids(tokenizer, text))

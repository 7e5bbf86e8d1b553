from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from lenvm.evaluation.length_tokens.token_names import token_name, token_text


class OneToken:
    """A tokenizer of one token: `piece` is how it stands in the vocabulary, `text` what it decodes to."""

    all_special_ids = (7,)

    def __init__(self, text: str, piece: str | None = None) -> None:
        self.text, self.piece = text, piece or text

    def decode(self, ids: list[int]) -> str:
        return self.text

    def convert_ids_to_tokens(self, token_id: int) -> str:
        return self.piece


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Wait", "Wait"),
        (" Wait", "_Wait"),
        ("  x", "__x"),
        ("\n\n", "\\n\\n"),
        (" \r\n", "_\\r\\n"),
        ("\tif", "\\tif"),
        (" ", None),
        ("\t", None),
        ("<|im_start|>", None),
        ("**", "**"),
        (" +", "_+"),
        ("∑", "∑"),
        ("→", "→"),
        ("等待", "等待"),
        ("✅", "emoji_check"),
        (" ✓", "_emoji_check"),
        ("🎉", "emoji_party"),
        ("✔️", "emoji_check"),
        ("a✅", "a✅"),
    ],
)
def test_names(text: str, name: str | None) -> None:
    tokenizer: PreTrainedTokenizerBase = OneToken(text)  # type: ignore[assignment]
    assert token_name(tokenizer, 1) == name


def test_special_tokens_have_no_name_and_parts_of_characters_have_different_ones() -> None:
    special, metaspace, half = OneToken("</s>"), OneToken("Wait", "\u2581Wait"), OneToken("\ufffd", "âĢ")
    assert token_name(special, 7) is None  # type: ignore[arg-type]
    assert token_name(metaspace, 1) == "_Wait"  # type: ignore[arg-type]
    assert token_text(half, 1) == "âĢ"  # type: ignore[arg-type]


def test_the_playground(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer(" Wait, let me", add_special_tokens=False).input_ids
    assert [token_name(tokenizer, i) for i in ids][:2] == ["_Wait", ","]
    assert token_name(tokenizer, tokenizer.eos_token_id) is None
    assert token_text(tokenizer, len(tokenizer) + 5) == ""

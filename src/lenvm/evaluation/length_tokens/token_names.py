"""How tokens are called in tables and figures, one by one, as people read them."""

from __future__ import annotations

import re
import unicodedata

from transformers import PreTrainedTokenizerBase

_SPECIAL = re.compile(r"<\|.*\|>")
_INSIGNIFICANT = {"WHITE", "BLACK", "HEAVY", "LIGHT", "LARGE", "MEDIUM", "SMALL", "BOLD", "NEGATIVE", "SQUARED"}
_METASPACE = "\u2581"


def token_text(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    """The text of one token id, with the space that SentencePiece tokenizers drop where a text begins."""
    text = str(tokenizer.decode([token_id]))
    piece = tokenizer.convert_ids_to_tokens(token_id)
    if not isinstance(piece, str):  # embeddings may have more rows than the tokenizer has tokens
        return text
    if "\ufffd" in text:
        return piece  # part of a character: its bytes tell it from others
    return " " + text if piece.startswith(_METASPACE) and not text.startswith(" ") else text


def token_name(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str | None:
    r"""The name of a token in tables; None for special tokens and for spaces, which are in none.

    Line breaks are written as `\n` and `\r`, leading spaces as `_`, and pictographs as `emoji_` with the first
    telling word of their Unicode name: "emoji_check". "Wait", " Wait" and "wait" stay apart.
    """
    if token_id in tokenizer.all_special_ids:
        return None
    text = token_text(tokenizer, token_id).replace("\r", "\\r").replace("\n", "\\n")
    if not text.strip() or _SPECIAL.fullmatch(text.strip()):
        return None
    body = text.lstrip(" ")
    name = _pictograph(body.strip()) or body.replace("\t", "\\t")
    return "_" * (len(text) - len(body)) + name


def _pictograph(text: str) -> str | None:
    """`emoji_NAME` for a text of pictographs, which few fonts can draw; None for any other."""
    drawn = [letter for letter in text if unicodedata.category(letter) == "So"]
    others = [letter for letter in text if unicodedata.category(letter) not in ("So", "Sk", "Cf", "Mn", "Me")]
    if not drawn or others:
        return None
    words = unicodedata.name(drawn[0], "UNNAMED").split()
    return "emoji_" + next((word for word in words if word not in _INSIGNIFICANT), words[-1]).lower()

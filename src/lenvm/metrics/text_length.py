"""The length of a text as people count it: words, and Chinese characters."""

from __future__ import annotations

import re
from typing import Literal

TextUnit = Literal["words", "characters"]

_WORD = re.compile(r"[\u4e00-\u9fff]|\b[A-Za-z0-9'-]+\b")


def text_length(text: str, unit: TextUnit, language: str | None = None) -> int:
    """How many words or characters a text has.

    `words` is the count of the LIFEBench authors, in every language the same: Chinese characters (U+4E00 to U+9FFF) and
    words, a word being a run of ASCII letters, digits, apostrophes and hyphens with a word boundary on both sides.
    Punctuation does not count, and neither do letters of other scripts, nor a Latin word that touches a Chinese
    character: a boundary needs a character that is no letter of any script.

    `characters` is the same count for Chinese (字), and for every other language all characters between the first and
    the last that is not white space, spaces among them. The benchmark itself never asks for characters in English.

    Args:
        text: a completion, without its end-of-text token.
        unit: what is counted.
        language: `cn` for Chinese, as LIFEBench writes it, or `zh`; anything else, and None, is another language.
    """
    if unit == "characters" and language not in ("cn", "zh"):
        return len(text.strip())
    return sum(1 for _ in _WORD.finditer(text))

from __future__ import annotations

import pytest

from lenvm.metrics import text_length


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        (" \n\t ", 0),
        ("Hello, world!", 2),
        ("It's a well-known fact -- in 1984.", 6),  # a dash alone has no boundary
        ("one\ntwo\n\n three", 3),
        ("你好，世界。", 4),
        ("我有 3 个 apples", 5),
        ("我有3个", 3),  # a digit that touches a character is no word
        ("naïve café", 0),  # letters beyond ASCII break the word
        ("\u4dff\u4e00\u9fff\ua000", 2),  # the ends of the range
        ("state-of-the-art, don't", 2),
        ("3.14", 2),
    ],
)
def test_words_are_counted_as_the_authors_of_the_benchmark_count_them(text: str, words: int) -> None:
    assert text_length(text, "words") == words
    assert text_length(text, "words", "cn") == words
    assert text_length(text, "words", "en") == words


def test_characters_are_the_benchmark_s_in_chinese_and_all_of_them_elsewhere() -> None:
    assert text_length(" 你好，世界 ok。\n", "characters", "cn") == 5
    assert text_length(" 你好，世界 ok。\n", "characters", "zh") == 5
    assert text_length(" Hello, world!\n", "characters", "en") == len("Hello, world!")
    assert text_length(" Hello, world!\n", "characters") == len("Hello, world!")

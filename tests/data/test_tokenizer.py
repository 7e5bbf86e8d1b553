from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from lenvm.data.tokenizer import fingerprint, load_tokenizer
from lenvm.errors import InputError
from lenvm.playground import POLICY_FOLDER
from lenvm.playground.tokenizer import train_tokenizer


def test_the_fingerprint_survives_saving(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    assert fingerprint(load_tokenizer(str(tmp_path))) == fingerprint(tokenizer)


def test_the_fingerprint_tells_vocabularies_and_ends_apart(tokenizer: PreTrainedTokenizerBase) -> None:
    other_text = train_tokenizer(["what is this, this is what"], vocab_size=300)
    other_end = load_tokenizer(str(POLICY_FOLDER))
    other_end.eos_token = other_end.pad_token
    another_word = load_tokenizer(str(POLICY_FOLDER))
    another_word.add_tokens(["brand-new"])
    assert len({fingerprint(t) for t in (tokenizer, other_text, other_end, another_word)}) == 4


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could not load a tokenizer from .* Check the name or folder"):
        load_tokenizer(str(tmp_path))


def test_a_path_where_nothing_is_is_not_asked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could not load a tokenizer from .*nothing is there; check the path"):
        load_tokenizer(str(tmp_path / "nowhere"))


def test_a_name_that_the_hub_does_not_give_is_refused() -> None:
    with pytest.raises(InputError, match="could not load a tokenizer from 'no/such-model'"):
        load_tokenizer("no/such-model")


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    endless = load_tokenizer(str(POLICY_FOLDER))
    endless.eos_token = None
    endless.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no end-of-text token, so no completion ever ends"):
        load_tokenizer(str(tmp_path))

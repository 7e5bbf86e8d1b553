from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lenvm.data.encoding import EncodedRollout, PromptFormat, RolloutEncoder
from lenvm.data.rollout import BadRowError, Prompt, parse_rollout
from lenvm.data.tokenizer import load_tokenizer
from lenvm.playground import POLICY_FOLDER

MESSAGES = [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": "2"}]


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return found


def encode(encoder: RolloutEncoder, **row: Any) -> EncodedRollout:
    (encoded,) = encoder.encode([parse_rollout(row)])
    assert isinstance(encoded, EncodedRollout), encoded
    return encoded


def problem(encoder: RolloutEncoder, **row: Any) -> str:
    (encoded,) = encoder.encode([parse_rollout(row)])
    assert isinstance(encoded, BadRowError), encoded
    return str(encoded)


@pytest.fixture
def words() -> PreTrainedTokenizerFast:
    """A tokenizer of words that opens every text with <s>, as Llama's do, and has a template that opens with it too."""
    vocabulary = {word: i for i, word in enumerate(["<s>", "</s>", "<unk>", "hello", "world", "user", "bye"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    template = "<s>{% for message in messages %} user {{ message['content'] }}{% endfor %}"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template
    )


@pytest.mark.parametrize(
    ("prompt_format", "prompt", "text"),
    [
        ("auto", "What is 1+1?", "What is 1+1?"),
        ("plain", "What is 1+1?", "What is 1+1?"),
        ("chat", "What is 1+1?", "<|user|>What is 1+1?<|assistant|>"),
        ("auto", MESSAGES[:1], "<|user|>What is 1+1?<|assistant|>"),
        ("chat", MESSAGES, "<|user|>What is 1+1?<|assistant|>2<|end|><|assistant|>"),
        ("plain", MESSAGES, "What is 1+1?\n\n2"),
    ],
)
def test_the_prompt_format_decides_between_chat_template_and_plain_text(
    tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat, prompt: Prompt, text: str
) -> None:
    encoder = RolloutEncoder(tokenizer, prompt_format)
    found = encode(encoder, prompt=prompt, completion="2").prompt_ids
    assert found == ids(tokenizer, text)
    assert encoder.encode_prompts([prompt, "x", prompt]) == [found, encoder.encode_prompts(["x"])[0], found]


def test_special_tokens_of_the_template_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    found = encode(RolloutEncoder(tokenizer), prompt=MESSAGES[:1], completion="2").prompt_ids
    assert tokenizer.convert_ids_to_tokens([found[0], found[-1]]) == ["<|user|>", "<|assistant|>"]


def test_eos_is_appended_once_to_a_finished_completion(tokenizer: PreTrainedTokenizerBase) -> None:
    eos, encoder = tokenizer.eos_token_id, RolloutEncoder(tokenizer)
    assert encode(encoder, prompt="a", completion="1,2").completion_ids == [*ids(tokenizer, "1,2"), eos]
    assert encode(encoder, prompt="a", completion="1,2<|end|>").completion_ids == [*ids(tokenizer, "1,2"), eos]
    assert encode(encoder, prompt="a", completion="").completion_ids == [eos]


def test_eos_is_not_appended_to_a_completion_that_was_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    found = encode(RolloutEncoder(tokenizer), prompt="a", completion="1,2", finish_reason="length").completion_ids
    assert found == ids(tokenizer, "1,2")


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_given_ids_are_used_as_they_are(tokenizer: PreTrainedTokenizerBase, finish_reason: str) -> None:
    encoder = RolloutEncoder(tokenizer, "chat")
    row = {"prompt": "text that says something else", "completion": "and more", "finish_reason": finish_reason}
    found = encode(encoder, **row, prompt_ids=[5, 6, 7], completion_ids=[8, 9])
    assert found == EncodedRollout([5, 6, 7], [8, 9])


def test_a_plain_prompt_gets_the_tokenizers_opening_token_and_a_completion_does_not(
    words: PreTrainedTokenizerFast,
) -> None:
    assert encode(RolloutEncoder(words), prompt="hello world", completion="bye") == EncodedRollout([0, 3, 4], [6, 1])


def test_a_templated_prompt_does_not_get_a_second_opening_token(words: PreTrainedTokenizerFast) -> None:
    found = encode(RolloutEncoder(words, "chat"), prompt="hello world", completion="bye")
    assert found == EncodedRollout([0, 5, 3, 4], [6, 1])


@pytest.mark.parametrize("field", ["prompt_ids", "completion_ids"])
def test_ids_outside_the_vocabulary_are_refused(tokenizer: PreTrainedTokenizerBase, field: str) -> None:
    encoder, size = RolloutEncoder(tokenizer), len(tokenizer)
    last = {"prompt_ids": [1, size - 1], "completion_ids": [size - 1, 3]}
    assert encode(encoder, **last) == EncodedRollout(*last.values())
    message = problem(encoder, **{**last, field: [4, size, 5]})
    assert f"`{field}` holds {size}, outside the tokenizer's vocabulary of {size}" in message


@pytest.mark.parametrize("length", [8, 9])
def test_a_prompt_that_fills_the_context_is_refused(tokenizer: PreTrainedTokenizerBase, length: int) -> None:
    row = {"prompt_ids": [5] * length, "completion_ids": [6, 3]}
    message = problem(RolloutEncoder(tokenizer, max_length=8), **row)
    assert f"the prompt has {length} tokens and fills the context of 8" in message
    assert encode(RolloutEncoder(tokenizer, max_length=length + 1), **row).prompt_ids == [5] * length
    assert encode(RolloutEncoder(tokenizer), **row).prompt_ids == [5] * length


def test_a_completion_longer_than_the_context_is_kept_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    row = {"prompt_ids": [5], "completion_ids": [6] * 100 + [3]}
    assert len(encode(RolloutEncoder(tokenizer, max_length=8), **row).completion_ids) == 101


def test_a_prompt_without_tokens_is_refused(words: PreTrainedTokenizerFast) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=words.backend_tokenizer, eos_token="</s>")
    bare.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")
    assert "the prompt has no tokens" in problem(RolloutEncoder(bare), prompt="   ", completion="hello")


def test_messages_without_a_chat_template_are_refused_unless_taken_plain(words: PreTrainedTokenizerFast) -> None:
    words.chat_template = None
    message = problem(RolloutEncoder(words), prompt=[{"role": "user", "content": "hello"}], completion="bye")
    assert "the tokenizer has no chat template; use `prompt_format: plain`" in message
    plain = encode(RolloutEncoder(words, "plain"), prompt=[{"role": "user", "content": "hello"}], completion="bye")
    assert plain.prompt_ids == [0, 3]


def test_a_row_of_ids_without_text_prompt_needs_no_template(words: PreTrainedTokenizerFast) -> None:
    words.chat_template = None
    assert encode(RolloutEncoder(words, "chat"), prompt_ids=[3], completion_ids=[4]).prompt_ids == [3]


def test_bad_rows_do_not_disturb_their_neighbours(tokenizer: PreTrainedTokenizerBase) -> None:
    encoder = RolloutEncoder(tokenizer, max_length=20)
    rows = [
        {"prompt": "a", "completion": "one"},
        {"prompt": "a" * 500, "completion": "two"},
        {"prompt": "b", "completion": "three", "finish_reason": "length"},
        {"prompt_ids": [99999], "completion_ids": [1]},
        {"prompt": "c", "completion": "four"},
    ]
    found = encoder.encode([parse_rollout(row) for row in rows])
    assert [isinstance(row, BadRowError) for row in found] == [False, True, False, True, False]
    for i in (0, 2, 4):
        assert found[i] == encode(encoder, **rows[i])


@pytest.mark.parametrize("fault", ["the template refuses the roles", "content is null"])
def test_a_row_that_the_chat_template_refuses_is_a_bad_row(fault: str) -> None:
    tokenizer = load_tokenizer(str(POLICY_FOLDER))
    if fault == "the template refuses the roles":
        tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    content = None if fault == "content is null" else "hi"
    problem(RolloutEncoder(tokenizer), prompt=[{"role": "user", "content": content}], completion="x")


@pytest.mark.parametrize("field", ["prompt", "completion"])
def test_text_that_is_no_unicode_is_a_bad_row(tokenizer: PreTrainedTokenizerBase, field: str) -> None:
    problem(RolloutEncoder(tokenizer), **{"prompt": "a", "completion": "b", field: "cut emoji \ud83d"})

"""The playground's tokenizer: byte-level BPE, so any text can be written, with one token per digit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

PAD_TOKEN, USER_TOKEN, ASSISTANT_TOKEN, EOS_TOKEN = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, model_max_length: int = 1024) -> Qwen2Tokenizer:
    """Learns the merges from `texts`; the vocabulary has at most `vocab_size` tokens.

    It is a `Qwen2Tokenizer`, with that class's splitting into words and digits, since `AutoTokenizer` gives that class
    for a folder with a Qwen2 model, whatever the folder's tokenizer_config.json says.
    """
    special = {"unk_token": PAD_TOKEN, "pad_token": PAD_TOKEN, "eos_token": EOS_TOKEN}
    template = Qwen2Tokenizer(**special).backend_tokenizer
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.pre_tokenizer = template.normalizer, template.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD_TOKEN, USER_TOKEN, ASSISTANT_TOKEN, EOS_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    merges: Any = [tuple(merge) for merge in learned["merges"]]  # annotated upstream as the older list of texts
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=merges,
        additional_special_tokens=[USER_TOKEN, ASSISTANT_TOKEN],
        chat_template=CHAT_TEMPLATE,
        model_max_length=model_max_length,
        **special,
    )

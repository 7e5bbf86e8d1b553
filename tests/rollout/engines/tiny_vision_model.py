"""A vision-language model of random weights, small enough for a test, that vLLM runs on a CPU without torchvision."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    AutoTokenizer,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from lenvm.playground import POLICY_FOLDER

_TOKENS = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<row_1_col_1>"]
_TEMPLATE = (
    "{% for message in messages %}<|user|>{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}<|assistant|>"
)
_SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2}


def save_tiny_vision_model(folder: Path) -> None:
    """Writes model, tokenizer (the playground's with a few more tokens) and image processor to a folder."""
    tokenizer = AutoTokenizer.from_pretrained(POLICY_FOLDER)
    tokenizer.add_special_tokens({"additional_special_tokens": _TOKENS})
    text = {
        **_SMALL,
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 1024,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = Idefics3Config(
        text_config=text,
        vision_config={**_SMALL, "num_hidden_layers": 1, "image_size": 56, "patch_size": 14},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        initializer_range=0.3,  # so that what is seen decides what is said
    )
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 56}, max_image_size={"longest_edge": 56}, do_image_splitting=False
    )
    Idefics3Processor(
        image_processor=images, tokenizer=tokenizer, image_seq_len=4, chat_template=_TEMPLATE
    ).save_pretrained(folder)

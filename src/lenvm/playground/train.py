"""Trains the playground's language model from nothing: procedural text, a small Qwen2, two CPU cores, under an hour."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, IterableDataset
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2Tokenizer

from lenvm.playground.corpus import draw_texts
from lenvm.playground.tokenizer import train_tokenizer

_IGNORED = -100
_POOL_SIZE = 4096
_TOKENIZER_TEXTS = 20_000


class _TextBatches(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of (input_ids, labels), each of texts of similar length and about `tokens_per_batch` tokens."""

    def __init__(self, tokenizer: Qwen2Tokenizer, *, tokens_per_batch: int, seed: int) -> None:
        self.tokenizer, self.tokens_per_batch, self.seed = tokenizer, tokens_per_batch, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        texts, rng = draw_texts(seed=self.seed), Random(self.seed)
        while True:
            pool = [self._encode(prompt, text) for prompt, text in islice(texts, _POOL_SIZE)]
            pool.sort(key=lambda pair: sum(map(len, pair)))
            batches, batch = [], []
            for pair in pool:
                batch.append(pair)
                if len(batch) * sum(map(len, pair)) >= self.tokens_per_batch:
                    batches.append(batch)
                    batch = []
            rng.shuffle(batches)
            yield from map(self._collate, batches)

    def _encode(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        chat = [{"role": "user", "content": prompt}]
        text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        prompt_ids = self.tokenizer(text, add_special_tokens=False).input_ids
        completion_ids = self.tokenizer(completion, add_special_tokens=False).input_ids
        return prompt_ids, [*completion_ids, self.tokenizer.eos_token_id]

    def _collate(self, pairs: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
        width = max(len(p) + len(c) for p, c in pairs)
        input_ids = torch.full((len(pairs), width), self.tokenizer.pad_token_id)
        labels = torch.full((len(pairs), width), _IGNORED)
        for row, (prompt_ids, completion_ids) in enumerate(pairs):
            end = len(prompt_ids) + len(completion_ids)
            input_ids[row, :end] = torch.tensor(prompt_ids + completion_ids)
            labels[row, len(prompt_ids) : end] = torch.tensor(completion_ids)
        return input_ids, labels


class _PolicyModule(L.LightningModule):
    """Next-token cross-entropy on the completion tokens."""

    def __init__(self, config: Qwen2Config, *, learning_rate: float, num_steps: int) -> None:
        super().__init__()
        self.model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        self.learning_rate, self.num_steps = learning_rate, num_steps

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        input_ids, labels = batch
        logits = self.model(input_ids=input_ids[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_IGNORED)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, betas=(0.9, 0.98), weight_decay=0.1)
        schedule = OneCycleLR(
            optimizer,
            self.learning_rate,
            total_steps=self.num_steps,
            pct_start=0.03,
            div_factor=25,
            final_div_factor=1e3,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train_policy(
    output: Path,
    *,
    num_steps: int = 6500,
    tokens_per_batch: int = 4096,
    learning_rate: float = 3e-3,
    hidden_size: int = 128,
    num_layers: int = 4,
    intermediate_size: int = 416,
    seed: int = 0,
) -> Path:
    """Trains the playground policy from nothing and writes it as a transformers model folder.

    The result is what lies in `lenvm.playground.POLICY_FOLDER`: about 0.9 M parameters, trained on procedural text that
    never contains a held-out prompt.

    Args:
        output: folder for the model, its tokenizer and the TensorBoard log.
        num_steps: optimizer steps.
        tokens_per_batch: tokens of prompt and completion per step, padding included.
        learning_rate: peak of the one-cycle schedule.
        hidden_size: width of the model; the head dimension is 32 (vLLM's CPU attention wants 32 or more).
        num_layers: number of transformer layers.
        intermediate_size: width of the feed-forward layers.
        seed: decides weights and text.

    Returns:
        The folder of the trained model.
    """
    L.seed_everything(seed)
    pairs = islice(draw_texts(seed=seed), _TOKENIZER_TEXTS)
    tokenizer = train_tokenizer((f"{prompt}\n{text}" for prompt, text in pairs), vocab_size=1024)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=max(hidden_size // 64, 1),
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    batches = _TextBatches(tokenizer, tokens_per_batch=tokens_per_batch, seed=seed)
    module = _PolicyModule(config, learning_rate=learning_rate, num_steps=num_steps)
    trainer = L.Trainer(max_steps=num_steps, gradient_clip_val=1.0, default_root_dir=output, enable_checkpointing=False)
    trainer.fit(module, DataLoader(batches, batch_size=None))
    module.model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    print(f"Done. The policy is in {output}.")
    return output

"""Training of the non-discounted regressor that a value model is compared with."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from torch.optim import AdamW
from transformers import PreTrainedTokenizerBase

from lenvm.backbones import PretrainedBackbone
from lenvm.class_path import describe
from lenvm.data import RolloutDataModule
from lenvm.data.reading import find_files
from lenvm.decoding.generator import identity
from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary.completions import Completions
from lenvm.heads import MLPHead
from lenvm.losses import TokenMean
from lenvm.models import LengthValueModel
from lenvm.targets import AbstractLengthTarget, LogLength
from lenvm.training import LengthValueModule

_ROWS_AT_ONCE = 16
_NOTES = (r".*isinstance\(treespec, LeafSpec\)", r".*does not have many workers", r".*module\(s\) in eval mode")


@dataclass(frozen=True, kw_only=True)
class RegressorFit:
    """How the non-discounted regressor is trained, from the generator's weights on.

    Args:
        target: what it regresses: the logarithm of the remaining length, which is learned sooner and with smaller
            relative errors, or the length itself (`lenvm.targets.RawLength`).
        epochs: passes over the training completions.
        max_completions: how many of them each pass takes at most, chosen anew each time; None takes all.
        lr: learning rate; 1e-3 is good for the playground's small policy, 2e-5 for a language model of billions.
        head_lr: learning rate of the new head.
        completions_per_step: completions of an optimizer step.
        seed: decides the head's first weights and the order of the completions.
    """

    target: AbstractLengthTarget = field(default_factory=LogLength)
    epochs: int = 2
    max_completions: int | None = None
    lr: float = 1e-3
    head_lr: float = 1e-3
    completions_per_step: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.epochs, self.completions_per_step, 1 if self.max_completions is None else self.max_completions)
        if min(counts) < 1 or min(self.lr, self.head_lr) <= 0:
            raise InputError(
                "`regressor_fit`: epochs, max_completions, completions_per_step, lr and head_lr must be positive."
            )


def load_regressor(folder: str) -> LengthValueModel:
    """A regressor that was trained elsewhere.

    Raises:
        InputError: if there is none, or if its target is discounted.
    """
    model = LengthValueModel.from_pretrained(folder)
    if model.target.reference_gamma is not None:
        raise InputError(
            f"`regressor`: {folder} regresses {type(model.target).__name__}, which is discounted; give a model with "
            "the target RawLength or LogLength."
        )
    return model


def train_regressor(
    output: Path,
    generator: str,
    source: Path,
    train: Completions,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    fit: RegressorFit,
) -> LengthValueModel:
    """Trains a regressor, or loads the one that the same data and settings gave before.

    Args:
        output: folder in which it has a folder of its own.
        generator: name or folder of the generator, whose weights it starts from.
        source: file or folder of training completions.
        train: the same, as they were read.
        tokenizer: the generator's.
        prompt_format: how text prompts become tokens.
        fit: how it is trained.
    """
    target: Any = fit.target
    settings = asdict(fit) | {"target": describe(target, asdict(target))}
    facts = [identity(generator), train.digest, prompt_format, settings]
    folder = output / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    if not (folder / "model").exists():
        _train(folder, generator, source, train, tokenizer, prompt_format, fit)
    return LengthValueModel.from_pretrained(folder / "model")


def _train(
    folder: Path,
    generator: str,
    source: Path,
    train: Completions,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    fit: RegressorFit,
) -> None:
    size = min(_ROWS_AT_ONCE, fit.completions_per_step)
    with torch.random.fork_rng():  # who calls has random numbers of their own
        torch.manual_seed(fit.seed)
        module = LengthValueModule(
            PretrainedBackbone(generator),
            head=MLPHead,
            target=fit.target,
            weighting=TokenMean(),
            optimizer=lambda params: AdamW(params, lr=fit.lr, weight_decay=0.01),
            head_lr=fit.head_lr,
            generator=generator,
        )
        data = RolloutDataModule(
            train=[str(file) for file in find_files([source]) or []],
            val_fraction=0.0,
            tokenizer=tokenizer.name_or_path,
            prompt_format=prompt_format,  # type: ignore[arg-type]
            batching="bucketed",
            batch_size=size,
            seed=fit.seed,
            cache_dir=folder / "cache",
        )
        on_gpu = torch.cuda.is_available()
        with _quietly():
            trainer = L.Trainer(
                accelerator="auto",
                devices=1,
                precision="bf16-mixed" if on_gpu else "32-true",
                max_epochs=fit.epochs,
                accumulate_grad_batches=max(fit.completions_per_step // size, 1),
                gradient_clip_val=1.0,
                limit_train_batches=_batches(train, size, fit.max_completions),
                limit_val_batches=0,
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=Console(stderr=True).is_terminal,
                default_root_dir=folder,
            )
            trainer.fit(module, datamodule=data)
    partial = folder / "model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    module.model.save_pretrained(partial, tokenizer)
    partial.rename(folder / "model")
    shutil.rmtree(folder / "cache", ignore_errors=True)


def _batches(train: Completions, size: int, wanted: int | None) -> int | float:
    """What Lightning calls it: a number of batches, or 1.0 for all."""
    there = sum(map(len, train.table.completion_lengths))
    return 1.0 if wanted is None or wanted >= there else max(wanted // size, 1)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what Lightning says about itself, which a user can do nothing about."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _NOTES:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        logger.setLevel(level)

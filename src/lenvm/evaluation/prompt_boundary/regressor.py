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
from lenvm.data.batching import Bucketed
from lenvm.data.reading import find_files
from lenvm.data.writing import write_rollouts
from lenvm.decoding.generator import identity
from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary.completions import Completions, read_rollouts
from lenvm.heads import MLPHead
from lenvm.losses import TokenMean
from lenvm.models import LengthValueModel
from lenvm.targets import AbstractLengthTarget, DiscountedReturn, LogLength
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
        completions_per_step: completions of an optimizer step: at most 16, which are read at once, or a multiple of 16.
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
        if self.completions_per_step > _ROWS_AT_ONCE and (over := self.completions_per_step % _ROWS_AT_ONCE):
            lower = self.completions_per_step - over
            raise InputError(
                f"`regressor_fit.completions_per_step` must be at most {_ROWS_AT_ONCE} or a multiple of it, got "
                f"{self.completions_per_step}; give {lower} or {lower + _ROWS_AT_ONCE}."
            )
        if _is_discounted(self.target):
            raise InputError(
                f"`regressor_fit.target`: {type(self.target).__name__} is discounted, but the regressor is the one "
                "without discount; give LogLength, RawLength or NormalizedLength."
            )

    @property
    def rows_at_once(self) -> int:
        """Completions of a forward pass."""
        return min(_ROWS_AT_ONCE, self.completions_per_step)

    @property
    def batches_per_step(self) -> int:
        """Forward passes of an optimizer step."""
        return self.completions_per_step // self.rows_at_once

    @property
    def batching(self) -> Bucketed:
        """Similar lengths together within what one step accumulates, so that its gradient has no bias."""
        return Bucketed(window=self.batches_per_step)

    def per_epoch(self, there: int) -> int:
        """How many of the completions that there are each pass takes: whole batches."""
        if self.max_completions is None or self.max_completions >= there:
            return there
        return min(max(self.max_completions // self.rows_at_once, 1) * self.rows_at_once, there)

    def described(self, there: int) -> dict[str, Any]:
        """What it comes to with so many training completions, for people."""
        return {
            "target": type(self.target).__name__,
            "epochs": self.epochs,
            "completions_per_epoch": self.per_epoch(there),
            "training_completions": there,
            "completions_per_step": self.completions_per_step,
            "lr": self.lr,
            "head_lr": self.head_lr,
        }


def _is_discounted(target: AbstractLengthTarget) -> bool:
    return isinstance(target, DiscountedReturn) or target.reference_gamma is not None


def load_regressor(folder: str) -> LengthValueModel:
    """A regressor that was trained elsewhere.

    Raises:
        InputError: if there is none, or if its target is discounted.
    """
    model = LengthValueModel.from_pretrained(folder)
    if _is_discounted(model.target):
        raise InputError(
            f"`regressor`: {folder} regresses {type(model.target).__name__}, which is discounted; give a model with "
            "the target LogLength, RawLength or NormalizedLength."
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

    A training that is killed leaves nothing behind: it starts anew.

    Args:
        output: folder in which it has a folder of its own.
        generator: name or folder of the generator, whose weights it starts from.
        source: file or folder of training completions.
        train: the same, as they were read; only completions of its prompts are learned from.
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
    size = fit.rows_at_once
    shutil.rmtree(folder / "cache", ignore_errors=True)  # of a training that was killed
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
            train=[str(file) for file in _files(source, train, folder / "cache")],
            val_fraction=0.0,
            tokenizer=tokenizer.name_or_path,
            prompt_format=prompt_format,  # type: ignore[arg-type]
            batching=fit.batching,
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
                accumulate_grad_batches=fit.batches_per_step,
                gradient_clip_val=1.0,
                limit_train_batches=_batches(train, fit),
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


def _files(source: Path, train: Completions, cache: Path) -> list[Path]:
    """Files that hold the completions of the training prompts and no others."""
    if len(train.table.prompt_ids) == train.prompts_read:
        return find_files([source]) or []
    chosen = set(train.table.prompt_ids)
    rows = (rollout for _, rollout in read_rollouts(source, "train_rollouts") if rollout.prompt_id in chosen)
    return [write_rollouts(rows, cache / "chosen.parquet")]


def _batches(train: Completions, fit: RegressorFit) -> int | float:
    """What Lightning calls it: a number of batches, or 1.0 for all."""
    per_epoch = fit.per_epoch(train.finished)
    return 1.0 if per_epoch == train.finished else per_epoch // fit.rows_at_once


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

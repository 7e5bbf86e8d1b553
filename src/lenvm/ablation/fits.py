"""A `lenvm fit` that is run once, and goes on where it was."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lenvm.ablation.commands import run_command


def is_fitted(folder: Path) -> bool:
    """Whether a fit into this folder has come to its end."""
    return (folder / "model" / "config.json").exists()


def fit(arguments: Sequence[str], folder: Path, log: Path | None = None, threads: int | None = None) -> None:
    """Runs `lenvm fit`, from its last checkpoint if it was stopped after one.

    Args:
        arguments: its options.
        folder: its `trainer.default_root_dir`. What a fit has left there that was stopped before its first checkpoint
            is removed.
        log: file for its output; left out, the terminal.
        threads: CPU threads that it may use.

    Raises:
        InputError: if it fails.
    """
    resumed = (folder / "checkpoints" / "last.ckpt").exists()
    if not resumed and (folder / "config.yaml").exists():
        shutil.rmtree(folder)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    run_command(["fit", *arguments, *(["--ckpt_path=last"] if resumed else [])], log, threads)

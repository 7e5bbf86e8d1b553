from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from lenvm.data.encoding import EncodedRollout, RolloutEncoder
from lenvm.data.reading import find_files, read_rows
from lenvm.data.rollout import Rollout, parse_rollout
from lenvm.rollout.importing.command import import_rollouts


@pytest.fixture
def read_back(tokenizer: PreTrainedTokenizerBase) -> Callable[[Path], list[Rollout]]:
    """The rows of a folder, after the encoder of `lenvm fit` has taken every one of them."""

    def read(folder: Path) -> list[Rollout]:
        files = find_files([folder])
        assert files is not None
        rollouts = [parse_rollout(row.data or {}) for row in read_rows(files)]
        for rollout, encoded in zip(rollouts, RolloutEncoder(tokenizer).encode(rollouts), strict=True):
            assert isinstance(encoded, EncodedRollout), encoded
            ended = encoded.completion_ids[-1] == tokenizer.eos_token_id
            assert ended == (rollout.finish_reason == "stop")
        return rollouts

    return read


@pytest.fixture
def run_import(tmp_path: Path, read_back: Callable[[Path], list[Rollout]]) -> Callable[..., list[Rollout]]:
    """Imports a file into `tmp_path / "out"` and reads the result back."""

    def run(file: Path, **options: Any) -> list[Rollout]:
        import_rollouts(file, output=tmp_path / "out", **options)
        return read_back(tmp_path / "out")

    return run

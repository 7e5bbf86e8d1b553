"""Completions and prompts that do not fit into the value model's context of 512 tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Rollout
from lenvm.data.writing import write_rollouts
from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary import prompt_boundary
from lenvm.evaluation.prompt_boundary.completions import gather, read_rollouts
from lenvm.evaluation.prompt_boundary.states import score_states
from lenvm.models import LengthValueModel


def test_states_beyond_the_context_are_not_scored(
    value_model: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    rows = [
        Rollout(prompt_id="long", prompt_ids=[9] * 12, completion_ids=[*[50] * 599, tokenizer.eos_token_id]),
        Rollout(prompt_id="short", prompt_ids=[9], completion_ids=[*[50] * 9, tokenizer.eos_token_id]),
    ]
    path = write_rollouts(rows, tmp_path / "rows.parquet")
    read = gather(read_rollouts(path, "rollouts"), RolloutEncoder(tokenizer), 0.98)
    model = LengthValueModel.from_pretrained(value_model)  # reads 512 tokens: 501 states of the long one
    scores = score_states(model, read, tmp_path / "scores", name="model", batch_size=8)
    assert np.isnan(scores.predicted).tolist() == [[False, False, False, False, True], [False] * 5]
    assert scores.reliability.sums[0].sum() == 501 + 10


def test_a_prompt_that_fills_the_context_is_named(
    value_model: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    row = Rollout(prompt_id="p", prompt_ids=[9] * 512, completion_ids=[50, tokenizer.eos_token_id])
    path = write_rollouts([row], tmp_path / "rows.parquet")
    with pytest.raises(
        InputError, match=r"rows.parquet, row 0: the prompt has 512 tokens and fills the context of 512"
    ):
        prompt_boundary(value_model=value_model, rollouts=path, output=tmp_path / "out")

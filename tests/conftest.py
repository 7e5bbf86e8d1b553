"""What every test stands on: no network, one thread, a real tokenizer, a real transformer of a few thousand weights."""

from __future__ import annotations

import os
import tempfile

# before any import of transformers or datasets, which read them once
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="lenvm-tests-")  # nothing goes to the home folder
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import atexit
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from transformers import PreTrainedTokenizerBase

atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)
torch.set_num_threads(1)
settings.register_profile("lenvm", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("lenvm")

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """The playground's tokenizer; read it, do not change it."""
    from lenvm.data.tokenizer import load_tokenizer
    from lenvm.playground import POLICY_FOLDER

    return load_tokenizer(str(POLICY_FOLDER))


@pytest.fixture
def tiny_backbone_config() -> dict[str, Any]:
    """Arguments of a RandomBackbone; no other dimension equals its vocabulary of 67."""
    return {
        "model_type": "qwen2",
        "vocab_size": 67,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
    }


@pytest.fixture
def write_json_lines(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows, one per line, to a file in `tmp_path`; a string is written as it is."""

    def write(rows: list[dict[str, Any] | str], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def id_rows() -> Callable[..., Rows]:
    """Makes rollout rows with random token ids below 67: `num_prompts` prompts, each with `per_prompt` completions."""

    def make(num_prompts: int, per_prompt: int, *, longest: int = 24, seed: int = 0) -> Rows:
        rng = torch.Generator().manual_seed(seed)

        def ids(length: int) -> list[int]:
            return torch.randint(4, 67, (length,), generator=rng).tolist()

        def up_to(limit: int) -> int:
            return int(torch.randint(1, limit + 1, (), generator=rng))

        rows: Rows = []
        for p in range(num_prompts):
            prompt_ids = ids(up_to(6))
            for _ in range(per_prompt):
                completion_ids = [*ids(up_to(longest) - 1), 3]
                rows.append({"prompt_id": f"p{p}", "prompt_ids": prompt_ids, "completion_ids": completion_ids})
        return rows

    return make


@pytest.fixture(scope="session")
def rollout_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety playground completions of thirty prompts as text rows with chat messages, in all three domains."""
    from random import Random

    from lenvm.playground.corpus import draw_distinct_problems
    from lenvm.playground.domains import write_solution

    rng = Random(0)
    path = tmp_path_factory.mktemp("rollouts") / "rollouts.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for problem in draw_distinct_problems(30, seed=0, held_out=False):
            for _ in range(3):
                row = {
                    "prompt": [{"role": "user", "content": problem.prompt}],
                    "completion": write_solution(problem, rng),
                    "domain": problem.domain,
                    "reference": problem.reference,
                }
                file.write(json.dumps(row) + "\n")
    return path

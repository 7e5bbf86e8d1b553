"""Completions as rows of a table: what all evaluations that write some keep of them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from lenvm.evaluation.blocks import Block
from lenvm.evaluation.prompts import TaskPrompts


def completion_columns(block: Block, prompts: TaskPrompts) -> dict[str, Any]:
    """Columns by name: the prompt, what was written, its length, and its likelihood under the generator.

    Args:
        block: the completions; N of them.
        prompts: what they complete.
    """
    asked = [prompts.rollouts[number] for number in block.prompt]
    return {
        "prompt": [p.prompt if isinstance(p.prompt, str) else json.dumps(p.prompt) for p in asked],
        "prompt_id": [p.prompt_id for p in asked],
        "domain": pa.array([p.domain for p in asked], pa.string()),
        "reference": pa.array([p.reference for p in asked], pa.string()),
        "sample": block.sample,
        "completion": block.text,
        "completion_ids": pa.array(block.ids, pa.list_(pa.int32())),
        "finish_reason": ["stop" if natural else "length" for natural in block.natural],
        "length": block.length,
        "nll": block.nll,
        "end_nll": block.end_nll,
    }

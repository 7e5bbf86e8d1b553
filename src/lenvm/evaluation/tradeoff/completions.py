"""All completions of a trade-off with their grades, as rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lenvm.evaluation.blocks import Block
from lenvm.evaluation.prompts import TaskPrompts


def completion_rows(written: Iterable[tuple[str, str, Block, NDArray[np.bool_]]], prompts: TaskPrompts) -> pa.Table:
    """One row per completion; budgets have none: they cut those of `plain`.

    Args:
        written: method, strength, completions, and whether each is right.
        prompts: their prompts.
    """
    tables = []
    for method, strength, block, right in written:
        size, asked = len(block.length), [prompts.rollouts[p] for p in block.prompt]
        columns: dict[str, Any] = {
            "prompt": [p.prompt if isinstance(p.prompt, str) else json.dumps(p.prompt) for p in asked],
            "prompt_id": [p.prompt_id for p in asked],
            "domain": pa.array([p.domain for p in asked], pa.string()),
            "reference": pa.array([p.reference for p in asked], pa.string()),
            "method": [method] * size,
            "strength": [strength] * size,
            "sample": block.sample,
            "completion": block.text,
            "completion_ids": pa.array(block.ids, pa.list_(pa.int32())),
            "finish_reason": ["stop" if natural else "length" for natural in block.natural],
            "length": block.length,
            "correct": right,
            "nll": block.nll,
            "end_nll": block.end_nll,
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)

"""All completions of a trade-off with their grades, as rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lenvm.evaluation.blocks import Block
from lenvm.evaluation.completion_rows import completion_columns
from lenvm.evaluation.prompts import TaskPrompts


def completion_rows(written: Iterable[tuple[str, str, Block, NDArray[np.bool_]]], prompts: TaskPrompts) -> pa.Table:
    """One row per completion; budgets have none: they cut those of `plain`.

    Args:
        written: method, strength, completions, and whether each is right.
        prompts: their prompts.
    """
    tables = []
    for method, strength, block, right in written:
        size = len(block.length)
        labels: dict[str, Any] = {"method": [method] * size, "strength": [strength] * size}
        columns = {**labels, **completion_columns(block, prompts), "correct": right}
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)

"""Metrics, exact across batches and processes."""

from lenvm.metrics.diversity import distinct_n
from lenvm.metrics.length_control import Constraint, length_deviation, length_score, meets
from lenvm.metrics.length_error import POSITIONS, LengthErrors
from lenvm.metrics.pass_at_k import pass_at_k
from lenvm.metrics.prompt_boundary import (
    BoundaryPairs,
    PromptBoundaryErrors,
    boundary_errors,
    return_consistent_length,
)
from lenvm.metrics.text_length import TextUnit, text_length

__all__ = [
    "POSITIONS",
    "BoundaryPairs",
    "Constraint",
    "LengthErrors",
    "PromptBoundaryErrors",
    "TextUnit",
    "boundary_errors",
    "distinct_n",
    "length_deviation",
    "length_score",
    "meets",
    "pass_at_k",
    "return_consistent_length",
    "text_length",
]

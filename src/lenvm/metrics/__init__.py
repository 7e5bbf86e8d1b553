"""Metrics, exact across batches and processes."""

from lenvm.metrics.length_error import POSITIONS, LengthErrors
from lenvm.metrics.prompt_boundary import (
    BoundaryPairs,
    PromptBoundaryErrors,
    boundary_errors,
    return_consistent_length,
)

__all__ = [
    "POSITIONS",
    "BoundaryPairs",
    "LengthErrors",
    "PromptBoundaryErrors",
    "boundary_errors",
    "return_consistent_length",
]

"""Completions that other programs wrote: one file per format, all turned into the rollout rows of DESIGN section 6."""

from lenvm.rollout.importing.base import AbstractFormat
from lenvm.rollout.importing.columns import Columns
from lenvm.rollout.importing.openai_batch import OpenAIBatch
from lenvm.rollout.importing.published import Published

__all__ = ["AbstractFormat", "Columns", "OpenAIBatch", "Published"]

"""Batching schemes: which completions share a micro-batch (paper section 5.2)."""

from lenvm.data.batching.base import AbstractBatching, RowFacts
from lenvm.data.batching.bucketed import Bucketed
from lenvm.data.batching.grouped import Grouped
from lenvm.data.batching.shuffled import Shuffled

__all__ = ["AbstractBatching", "Bucketed", "Grouped", "RowFacts", "Shuffled"]

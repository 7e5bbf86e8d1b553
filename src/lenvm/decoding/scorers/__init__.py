"""Scorers: the predicted remaining length after each candidate (DESIGN section 5)."""

from lenvm.decoding.scorers.action_value import ActionValueScorer
from lenvm.decoding.scorers.base import AbstractScorer, AbstractScoring
from lenvm.decoding.scorers.tree import TreeScorer

__all__ = ["AbstractScorer", "AbstractScoring", "ActionValueScorer", "TreeScorer"]

"""Heads: from hidden states to lengths, each with its own loss (DESIGN section 3)."""

from lenvm.heads.base import AbstractHead, AbstractStateHead
from lenvm.heads.linear import LinearHead
from lenvm.heads.mlp import MLPHead

__all__ = ["AbstractHead", "AbstractStateHead", "LinearHead", "MLPHead"]

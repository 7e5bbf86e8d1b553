"""Heads: from hidden states to lengths, each with its own loss (DESIGN section 3)."""

from lenvm.heads.action_value import ActionValueHead
from lenvm.heads.base import AbstractActionHead, AbstractHead, AbstractStateHead
from lenvm.heads.linear import LinearHead
from lenvm.heads.mlp import MLPHead

__all__ = ["AbstractActionHead", "AbstractHead", "AbstractStateHead", "ActionValueHead", "LinearHead", "MLPHead"]

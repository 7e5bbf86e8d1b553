"""Rollouts: reading, splitting, batching."""

from lenvm.data.module import RolloutDataModule
from lenvm.data.rollout import Rollout

__all__ = ["Rollout", "RolloutDataModule"]

"""Training with Lightning."""

from lenvm.training.module import LengthValueModule

__all__ = ["LengthValueModule"]

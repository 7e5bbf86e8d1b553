"""Writing to a wanted length: every method at every target, with what it does to the text."""

from lenvm.evaluation.length_control.command import length_control

__all__ = ["length_control"]

"""How the validation loss falls with more weights, more prompts, and more completions of each."""

from lenvm.evaluation.scaling.command import scaling

__all__ = ["scaling"]

"""Length prediction before the first token, beside predictors that do not read tokens."""

from lenvm.evaluation.prompt_boundary.command import prompt_boundary

__all__ = ["prompt_boundary"]

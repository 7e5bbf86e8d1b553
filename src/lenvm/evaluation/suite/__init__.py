"""All evaluations in one go, with one summary and one page."""

from lenvm.evaluation.suite.command import evaluate_all

__all__ = ["evaluate_all"]

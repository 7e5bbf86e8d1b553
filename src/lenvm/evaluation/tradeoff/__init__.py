"""How many tokens a right answer needs."""

from lenvm.evaluation.tradeoff.command import tradeoff

__all__ = ["tradeoff"]

"""Which tokens make completions longer or shorter."""

from lenvm.evaluation.length_tokens.command import length_tokens

__all__ = ["length_tokens"]

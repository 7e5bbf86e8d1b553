"""How completions are sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lenvm.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """The decoding policy: which tokens are candidates, and how one of them is drawn.

    Candidates are filtered in transformers' own order: temperature, top-k, top-p, min-p. A value model is true to the
    policy whose completions it was trained on.

    Args:
        temperature: divides the logits; 1 is the model's own distribution, 0 always takes the most probable token (of
            the distribution that a rule leaves, where there is one).
        top_k: keep this many most probable tokens; 0 keeps all.
        top_p: keep the most probable tokens that together reach this probability; 1 keeps all.
        min_p: drop tokens below this share of the most probable one; 0 drops none.
        max_tokens: longest completion, EOS included; a longer one is cut and marked `length`.
        stop: texts that end a completion as soon as they are written. The completion's text ends before them, its token
            ids with the token that completes them; there is no end-of-text token then.
        seed: with the prompt and the sample's number, decides every completion, whatever the batch it is in.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, ok, wanted in (
            ("temperature", 0 <= self.temperature < float("inf"), "0 (greedy) or a positive number"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("min_p", 0 <= self.min_p < 1, "in [0, 1)"),
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("stop", not isinstance(self.stop, str) and all(self.stop), "a list of texts, none of them empty"),
        ):
            if not ok:
                raise InputError(f"`{name}` must be {wanted}, got {getattr(self, name)!r}.")

    def described(self) -> dict[str, Any]:
        """The settings as JSON, under the names that they have in a configuration."""
        return {f"sampling.{name}": value for name, value in vars(self).items()} | {"sampling.stop": list(self.stop)}


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str | None, str]:
    """The stop text that comes first in a text, None if there is none, and what stands before it."""
    found = [(text.index(end), end) for end in stop if end in text]
    if not found:
        return None, text
    place, end = min(found)
    return end, text[:place]

"""Points of the trade-off between tokens and right answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenvm.errors import InputError
from lenvm.evaluation.blocks import Block
from lenvm.evaluation.statistics import Floats, bootstrap_interval, prompt_means
from lenvm.metrics import pass_at_k


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Completions of all prompts, as one point of the trade-off; intervals are bootstrapped over prompts (95 %).

    Args:
        method: what wrote them.
        strength: how strongly, such as the beta of a tilt or a budget; empty for a method that has one strength only.
        lengths: mean tokens of each prompt's completions, EOS included; (P,).
        pass_at: Pass@k of each prompt by k; 1 is among them; (P,) each.
        natural_end: share of completions that ended by themselves.
        nll_per_token: the generator's own negative log-likelihood per token; None where nothing was written anew.
    """

    method: str
    strength: str
    lengths: Floats
    pass_at: dict[int, Floats]
    natural_end: float
    nll_per_token: float | None

    @property
    def name(self) -> str:
        """Method and strength."""
        return f"{self.method} {self.strength}".rstrip()

    @property
    def rights(self) -> Floats:
        """Share of right completions of each prompt; (P,)."""
        return self.pass_at[1]

    @property
    def tokens(self) -> float:
        """Mean tokens per completion."""
        return float(self.lengths.mean())

    @property
    def accuracy(self) -> float:
        """Pass@1."""
        return float(self.rights.mean())

    @cached_property
    def tokens_interval(self) -> tuple[float, float]:
        """Of the mean tokens."""
        return bootstrap_interval(self.lengths)

    @cached_property
    def pass_at_intervals(self) -> dict[int, tuple[float, float]]:
        """Of Pass@k, by k."""
        return {k: bootstrap_interval(chances) for k, chances in self.pass_at.items()}

    def summary(self) -> dict[str, Any]:
        """Its figures, as JSON."""
        return {
            "mean_tokens": self.tokens,
            "mean_tokens_interval": self.tokens_interval,
            "accuracy": self.accuracy,
            "accuracy_interval": self.pass_at_intervals[1],
            "pass_at_k": {str(k): float(chances.mean()) for k, chances in self.pass_at.items()},
            "pass_at_k_interval": {str(k): interval for k, interval in self.pass_at_intervals.items()},
            "natural_end": self.natural_end,
            "nll_per_token": self.nll_per_token,
        }


def chosen_ks(ks: Sequence[int], num_samples: int) -> list[int]:
    """The k of Pass@k, 1 always among them; none given, the powers of two up to the number of samples.

    Raises:
        InputError: if one of them is not in 1 to the number of samples.
    """
    if ks and not 1 <= min(ks) <= max(ks) <= num_samples:
        raise InputError(
            f"`ks` must be 1 to {num_samples}, the completions per prompt, got {list(ks)}; leave out what is beyond, "
            "or give more `--num_samples`."
        )
    return sorted({1, *(ks or (2**i for i in range(num_samples.bit_length())))})


def written(method: str, strength: str, block: Block, right: NDArray[np.bool_], ks: Sequence[int]) -> Outcome:
    """The outcome of completions.

    Args:
        method: what wrote them.
        strength: how strongly.
        block: the completions; (N,) of P prompts.
        right: whether each is right; (N,).
        ks: the k of Pass@k.
    """
    nll = float(block.nll.sum() / block.length.sum())
    return _outcome(method, strength, block, block.length, block.natural, right, ks, nll)


def cut(method: str, budget: int, block: Block, right: NDArray[np.bool_], ks: Sequence[int]) -> Outcome:
    """The outcome of plain completions cut at a budget B: min(L, B) tokens, wrong if they had not ended by then.

    Args:
        method: what this is called.
        budget: in tokens, EOS included: a completion with L = B is whole.
        block: the completions as they were without a budget.
        right: whether each of these is right; (N,).
        ks: the k of Pass@k.
    """
    whole = block.natural & (block.length <= budget)
    return _outcome(method, str(budget), block, np.minimum(block.length, budget), whole, right & whole, ks, None)


def _outcome(
    method: str,
    strength: str,
    block: Block,
    lengths: NDArray[np.int64],
    natural: NDArray[np.bool_],
    right: NDArray[np.bool_],
    ks: Sequence[int],
    nll_per_token: float | None,
) -> Outcome:
    numbers = np.unique(block.prompt, return_inverse=True)[1]
    counts = np.bincount(numbers, weights=right).astype(np.int64)
    return Outcome(
        method=method,
        strength=strength,
        lengths=prompt_means(lengths, block.prompt),
        pass_at={k: pass_at_k(counts, np.bincount(numbers), k) for k in ks},
        natural_end=float(natural.mean()),
        nll_per_token=nll_per_token,
    )

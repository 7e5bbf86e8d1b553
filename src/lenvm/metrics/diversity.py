"""How varied a set of completions is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def distinct_n(completions: Sequence[Sequence[int]], n: int) -> float:
    """The number of different n-grams among all n-grams of a set of completions, divided by the number of all.

    An n-gram is n token ids in a row within one completion; the n-grams of all completions are pooled (Li et al.
    2016), so a set with more tokens has a smaller share: compare sets of about the same size.

    Args:
        completions: token ids of each completion; those shorter than `n` have no n-gram.
        n: tokens per n-gram.

    Returns:
        A share in (0, 1]; NaN if there is no n-gram at all.
    """
    lengths = torch.tensor([len(ids) for ids in completions], dtype=torch.long)
    flat = torch.tensor([token for ids in completions for token in ids], dtype=torch.long)
    if len(flat) < n:
        return math.nan
    owner = torch.repeat_interleave(lengths)
    grams = flat.unfold(0, n, 1)
    # windows that reach from one completion into the next are none
    grams = grams[owner[: len(grams)] == owner[n - 1 :]]
    if len(grams) == 0:
        return math.nan
    return len(torch.unique(grams, dim=0)) / len(grams)

"""The chance that at least one of k completions is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenvm.errors import InputError


def pass_at_k(right: ArrayLike, samples: ArrayLike, k: int) -> NDArray[np.float64]:
    """Pass@k without bias: the share of the sets of k of a prompt's completions in which one is right.

    1 - C(n - c, k) / C(n, k) for c right ones of n (Chen et al. 2021, Eq. 1), as a product, so that no binomial
    coefficient is too large for a float.

    Args:
        right: right completions of each prompt; (P,) or a number.
        samples: completions of each prompt; like `right`.
        k: how many are drawn, without putting any back.

    Returns:
        One chance per prompt, in [0, 1]; (P,). Its mean over prompts is Pass@k; with k = 1 it is `right / samples`.

    Raises:
        InputError: if k is not in 1 to the number of completions, or more are right than there are.
    """
    right, samples = np.broadcast_arrays(np.atleast_1d(right), np.atleast_1d(samples))
    if (right < 0).any() or (right > samples).any():
        raise InputError("of each prompt, the right completions must be 0 or more and no more than all; count again.")
    if k < 1 or (samples < k).any():
        raise InputError(
            f"Pass@k needs k of 1 or more and k completions of every prompt, got k = {k} and {int(samples.min())} "
            "completions; choose a smaller k, or write more completions."
        )
    drawn = np.arange(k)
    # of the completions not drawn yet, the share that is wrong, while none that was drawn is right
    wrong = np.clip(samples[:, None] - right[:, None] - drawn, 0, None) / (samples[:, None] - drawn)
    return np.asarray(1.0 - wrong.prod(axis=1), dtype=np.float64)

"""How good predicted lengths are."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau

from lenvm.evaluation.prompt_boundary.predictors import Floats


def errors(predicted: Floats, true: Floats) -> dict[str, float]:
    """Mean and median relative error, mean absolute error and Kendall's tau of predicted lengths."""
    relative = np.abs(predicted - true) / true
    constant = len(true) < 2 or np.ptp(predicted) == 0
    return {
        "mre": float(relative.mean()),
        "median_re": float(np.median(relative)),
        "mae": float(np.abs(predicted - true).mean()),
        # a constant ranks nothing; 0 is what chance gives
        "kendall_tau": 0.0 if constant else float(kendalltau(predicted, true).statistic),
    }

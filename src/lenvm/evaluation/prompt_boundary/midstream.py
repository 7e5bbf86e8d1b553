"""How wrong the remaining length is while a completion is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenvm.evaluation.by_position import MIDSTREAM, errors_at
from lenvm.evaluation.prompt_boundary.predictors import Floats, best_constant
from lenvm.evaluation.prompt_boundary.states import midstream_states


def midstream_errors(lengths: NDArray[np.int64], predicted: Mapping[str, Floats]) -> dict[str, Any]:
    """Errors of the remaining length at each relative position of `MIDSTREAM`, beside the best constant.

    The constant takes every completion to be equally long, and counts down. It is chosen on the very completions it is
    judged on: their median for errors in tokens, their median weighted by 1/length for relative errors.

    Args:
        lengths: of the completions; (C,).
        predicted: predicted remaining length of each predictor; (C, 5), NaN where it could not read so far. A state
            that one of them could not read is left out for all.

    Returns:
        `mae` (tokens) and `relative_error`: predictor to position in percent to error; and `states`: position to the
        number of states that were judged.
    """
    true_lengths = lengths.astype(np.float64)
    constants = {"mae": float(np.median(true_lengths)), "relative_error": best_constant(true_lengths)}
    found: dict[str, Any] = {"mae": {}, "relative_error": {}, "states": {}}
    for column, q in enumerate(MIDSTREAM):
        name = f"{q * 100:.0f}"
        known = np.all([~np.isnan(says[:, column]) for says in predicted.values()], axis=0)
        found["states"][name] = int(known.sum())
        if not known.any():
            continue
        position = midstream_states(lengths)[known, column].astype(np.float64)
        says = {predictor: values[known, column] for predictor, values in predicted.items()}
        for measure, constant in constants.items():
            errors = errors_at(
                position, true_lengths[known] - position, says, constant, relative=measure == "relative_error"
            )
            for predictor, error in errors.items():
                found[measure].setdefault(predictor, {})[name] = error
    return found

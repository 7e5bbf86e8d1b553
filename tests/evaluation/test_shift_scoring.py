"""The sign and the value of horizon shifts, with a model that reads the remaining length off the last token."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lenvm.backbones import AbstractBackbone
from lenvm.evaluation.length_tokens.scoring import ReadCompletion, token_shifts
from lenvm.heads import LinearHead
from lenvm.models import LengthValueModel
from lenvm.returns import horizon_shifts
from lenvm.targets import AbstractLengthTarget, DiscountedReturn, LogLength, NormalizedLength, RawLength

GAMMA = 0.9
EOS, BEGIN, NEUTRAL, LENGTHENS, SHORTENS = range(5)
TARGETS = [DiscountedReturn(gamma=GAMMA), RawLength(), LogLength(), NormalizedLength(max_length=100)]


class TableBackbone(AbstractBackbone):
    """Its one hidden number is the logit of the remaining length that a table gives to the last token."""

    config: Any = None

    def __init__(self, remaining: list[float], target: AbstractLengthTarget, context: int | None = None) -> None:
        nn.Module.__init__(self)
        self.logits, self._context = target.logits(torch.tensor(remaining)), context

    def forward(self, input_ids: Tensor) -> Tensor:
        assert self._context is None or input_ids.shape[1] <= self._context
        return self.logits[input_ids][..., None]

    @property
    def vocab_size(self) -> int:
        return len(self.logits)

    @property
    def context_length(self) -> int | None:
        return self._context


def table_model(
    remaining: list[float], target: AbstractLengthTarget = RawLength(), context: int | None = None
) -> LengthValueModel:
    head = LinearHead(1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(1.0 if parameter.dim() == 2 else 0.0)
    return LengthValueModel(TableBackbone(remaining, target, context), head, target, GAMMA).eval()


def u(n: float) -> float:
    return 1 - GAMMA**n


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: type(t).__name__)
def test_what_lengthens_is_positive_whatever_the_target(target: AbstractLengthTarget) -> None:
    # ten tokens are to come; NEUTRAL costs one, LENGTHENS announces thirty, SHORTENS three
    model = table_model([50, 10, 9, 30, 3], target)
    rows = [ReadCompletion([BEGIN], [token], False) for token in (NEUTRAL, LENGTHENS, SHORTENS)]
    neutral, longer, shorter = (float(s[0]) for s in token_shifts(model, rows, [EOS]))
    assert neutral == pytest.approx(0, abs=1e-6)
    assert longer == pytest.approx(GAMMA * u(30) - u(10) + 1 - GAMMA, abs=1e-6)
    assert longer > 0.1
    assert shorter < -0.1


def test_values_by_hand() -> None:
    model = table_model([50, 10, 9, 30, 3])
    completion = [NEUTRAL, LENGTHENS, SHORTENS, EOS]
    (shifts,) = token_shifts(model, [ReadCompletion([LENGTHENS, BEGIN], completion, True)], [EOS])
    horizons = [u(10), u(9), u(30), u(3), 0.0]  # after the end nothing remains, whatever the table says of EOS
    expected = [GAMMA * horizons[t + 1] - horizons[t] + 1 - GAMMA for t in range(4)]
    np.testing.assert_allclose(shifts, expected, atol=1e-6)
    # paper Eq. 16, with r = -(1 - gamma) and V = -u, has the opposite sign
    np.testing.assert_allclose(
        shifts, [-(-(1 - GAMMA) - GAMMA * horizons[t + 1] + horizons[t]) for t in range(4)], atol=1e-6
    )


def test_only_a_finished_completion_ends_in_nothing() -> None:
    model = table_model([50, 10, 9, 30, 3])
    read = [NEUTRAL, SHORTENS]
    rows = [ReadCompletion([BEGIN], read, ended) for ended in (False, True)]
    cut, stopped, ended = token_shifts(model, [*rows, ReadCompletion([BEGIN], [NEUTRAL, EOS], False)], [EOS])
    assert cut[-1] == pytest.approx(GAMMA * u(3) - u(9) + 1 - GAMMA, abs=1e-6)
    # a stop text ends without EOS, and EOS ends whatever the row says
    assert stopped[-1] == ended[-1] == pytest.approx(1 - GAMMA - u(9), abs=1e-6)
    # an end that was certain is no news
    certain = token_shifts(table_model([50, 1]), [ReadCompletion([1], [EOS], True)], [EOS])[0]
    assert certain[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("context", "scored"), [(2, 0), (3, 1), (4, 2), (5, 4), (6, 4)], ids=lambda value: str(value))
def test_what_lies_beyond_the_context_has_no_shift(context: int, scored: int) -> None:
    model = table_model([50, 10, 9, 30, 3], context=context)
    row = ReadCompletion([LENGTHENS, BEGIN], [NEUTRAL, NEUTRAL, NEUTRAL, EOS], True)
    (shifts,) = token_shifts(model, [row], [EOS])
    # the state before EOS is the last that is read, so five tokens of context are enough for six
    assert np.isnan(shifts).tolist() == [t >= scored for t in range(4)]


def test_an_exact_value_function_is_never_surprised_on_average() -> None:
    # after BEGIN, four tokens are to come with 30 %, forty with 70 %
    horizon = 0.3 * u(4) + 0.7 * u(40)
    remaining = math.log(1 - horizon) / math.log(GAMMA)
    model = table_model([50, remaining, 3, 39], RawLength())
    rows = [ReadCompletion([1], [2], False), ReadCompletion([1], [3], False)]
    short, long = (float(s[0]) for s in token_shifts(model, rows, [EOS]))
    assert short < 0 < long
    assert 0.3 * short + 0.7 * long == pytest.approx(0, abs=1e-6)


def test_batches_do_not_matter() -> None:
    model = table_model([50, 10, 9, 30, 3])
    rng = np.random.default_rng(0)
    rows = [
        ReadCompletion(rng.integers(1, 5, m).tolist(), rng.integers(1, 5, n).tolist(), bool(n % 2))
        for m, n in rng.integers(1, 9, (12, 2))
    ]
    for row, together in zip(rows, token_shifts(model, rows, [EOS]), strict=True):
        np.testing.assert_array_equal(token_shifts(model, [row], [EOS])[0], together)


def test_the_right_countdown_has_no_shift_in_any_position() -> None:
    remaining = torch.arange(5000, -1, -1, dtype=torch.float64)
    shifts = horizon_shifts(1 - 0.999**remaining, 0.999)
    assert shifts.abs().max() < 1e-12
    assert horizon_shifts((1 - 0.9998**remaining).float(), 0.9998).abs().max() < 1e-6

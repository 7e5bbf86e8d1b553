from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from lenvm.class_path import build, describe
from lenvm.errors import InputError
from lenvm.losses import AbstractLoss, Huber, SquaredError


def test_a_described_object_is_built_again() -> None:
    description = describe(Huber(delta=0.3), {"delta": 0.3})
    assert description == {"class_path": "lenvm.losses.huber.Huber", "init_args": {"delta": 0.3}}
    assert build(description, AbstractLoss) == Huber(delta=0.3)  # type: ignore[type-abstract]


def test_missing_arguments_take_their_defaults() -> None:
    assert build({"class_path": "lenvm.losses.SquaredError"}, AbstractLoss) == SquaredError()  # type: ignore[type-abstract]


def test_positional_arguments_come_first() -> None:
    layer = build({"class_path": "torch.nn.Linear", "init_args": {"bias": False}}, nn.Module, 3, 2)
    assert (layer.in_features, layer.out_features, layer.bias) == (3, 2, None)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, "class '' was not found"),
        ({"class_path": "Huber"}, "class 'Huber' was not found"),
        ({"class_path": "no_such_package.Huber"}, "install the package that defines it"),
        ({"class_path": "lenvm.losses.NoSuchLoss"}, "class 'lenvm.losses.NoSuchLoss' was not found"),
        ({"class_path": "collections.OrderedDict"}, "expected a subclass of AbstractLoss, got"),
        ({"class_path": "os.system"}, "expected a subclass of AbstractLoss, got 'os.system'"),
        ({"class_path": "lenvm.losses.Huber", "init_args": {"width": 3}}, "does not take these arguments: .*width"),
        ({"class_path": "lenvm.losses.Huber", "init_args": {"delta": -1}}, "`delta` must be positive"),
    ],
)
def test_a_description_that_cannot_be_built_is_refused(description: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(description, AbstractLoss)  # type: ignore[type-abstract]

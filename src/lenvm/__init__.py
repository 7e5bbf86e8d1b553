"""Token-level length modelling of language models: train, predict, steer.

The public names are loaded at first use, so that `import lenvm` is instant and pulls in neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lenvm.version import __version__

if TYPE_CHECKING:
    from lenvm.backbones import PretrainedBackbone, RandomBackbone
    from lenvm.data import Rollout, RolloutDataModule
    from lenvm.errors import InputError
    from lenvm.heads import LinearHead, MLPHead
    from lenvm.models import LengthValueModel
    from lenvm.returns import discounted_returns, gamma_from_lengths, lambda_returns
    from lenvm.targets import DiscountedReturn, LogLength, NormalizedLength, RawLength
    from lenvm.training import LengthValueModule

_HOMES = {
    "DiscountedReturn": "targets",
    "InputError": "errors",
    "LengthValueModel": "models",
    "LengthValueModule": "training",
    "LinearHead": "heads",
    "LogLength": "targets",
    "MLPHead": "heads",
    "NormalizedLength": "targets",
    "PretrainedBackbone": "backbones",
    "RandomBackbone": "backbones",
    "RawLength": "targets",
    "Rollout": "data",
    "RolloutDataModule": "data",
    "discounted_returns": "returns",
    "gamma_from_lengths": "returns",
    "lambda_returns": "returns",
}

__all__ = [
    "DiscountedReturn",
    "InputError",
    "LengthValueModel",
    "LengthValueModule",
    "LinearHead",
    "LogLength",
    "MLPHead",
    "NormalizedLength",
    "PretrainedBackbone",
    "RandomBackbone",
    "RawLength",
    "Rollout",
    "RolloutDataModule",
    "__version__",
    "discounted_returns",
    "gamma_from_lengths",
    "lambda_returns",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lenvm' has no attribute {name!r}")
    return getattr(import_module(f"lenvm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

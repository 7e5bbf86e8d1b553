"""Token-level length modelling of language models: train, predict, steer.

The public names are loaded at first use, so that `import lenvm` is instant and pulls in neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lenvm.version import __version__

if TYPE_CHECKING:
    from lenvm.backbones import PretrainedBackbone, RandomBackbone, SharedBackbone
    from lenvm.data import Rollout, RolloutDataModule
    from lenvm.decoding.generate import generate
    from lenvm.decoding.logits_processor import LengthGuidance
    from lenvm.errors import InputError
    from lenvm.heads import ActionValueHead, LinearHead, MLPHead
    from lenvm.models import LengthValueModel
    from lenvm.returns import discounted_returns, gamma_from_lengths, lambda_returns
    from lenvm.targets import DiscountedReturn, LogLength, NormalizedLength, RawLength
    from lenvm.training import LengthValueModule

_HOMES = {
    "ActionValueHead": "heads",
    "DiscountedReturn": "targets",
    "InputError": "errors",
    "LengthGuidance": "decoding.logits_processor",
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
    "SharedBackbone": "backbones",
    "discounted_returns": "returns",
    "gamma_from_lengths": "returns",
    "generate": "decoding.generate",
    "lambda_returns": "returns",
}

__all__ = [
    "ActionValueHead",
    "DiscountedReturn",
    "InputError",
    "LengthGuidance",
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
    "SharedBackbone",
    "__version__",
    "discounted_returns",
    "gamma_from_lengths",
    "generate",
    "lambda_returns",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lenvm' has no attribute {name!r}")
    return getattr(import_module(f"lenvm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

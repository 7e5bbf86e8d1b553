"""The length value model and its description on disk."""

from lenvm.models.config import LengthValueConfig
from lenvm.models.value_model import LengthValueModel

__all__ = ["LengthValueConfig", "LengthValueModel"]

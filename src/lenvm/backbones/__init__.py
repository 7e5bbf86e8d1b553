"""Backbones: the transformers that read prompt and completion (paper section 3.2)."""

from lenvm.backbones.base import AbstractBackbone
from lenvm.backbones.pretrained import PretrainedBackbone
from lenvm.backbones.random import RandomBackbone

__all__ = ["AbstractBackbone", "PretrainedBackbone", "RandomBackbone"]

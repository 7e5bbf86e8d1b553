"""Backbones: the transformers that read prompt and completion (paper section 3.2)."""

from lenvm.backbones.base import AbstractBackbone, AbstractOwnBackbone
from lenvm.backbones.pretrained import PretrainedBackbone
from lenvm.backbones.random import RandomBackbone
from lenvm.backbones.shared import SharedBackbone

__all__ = ["AbstractBackbone", "AbstractOwnBackbone", "PretrainedBackbone", "RandomBackbone", "SharedBackbone"]

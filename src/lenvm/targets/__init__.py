"""Length targets: the spaces in which remaining length can be regressed (DESIGN section 3)."""

from lenvm.targets.base import AbstractLengthTarget, LengthSummary
from lenvm.targets.discounted import DiscountedReturn
from lenvm.targets.log import LogLength
from lenvm.targets.normalized import NormalizedLength
from lenvm.targets.raw import RawLength

__all__ = ["AbstractLengthTarget", "DiscountedReturn", "LengthSummary", "LogLength", "NormalizedLength", "RawLength"]

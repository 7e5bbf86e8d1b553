"""Baselines: single methods, and families of one method in several strengths, each of which is a curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lenvm.errors import InputError
from lenvm.evaluation.methods import AbstractMethod
from lenvm.evaluation.tradeoff.comparison import BUDGET, TILT

Baselines = Mapping[str, AbstractMethod | dict[str, AbstractMethod]]


class Member(NamedTuple):
    """One method.

    Attributes:
        family: what its curve is called.
        strength: its name within the family; empty for a method that stands alone.
        method: the method.
    """

    family: str
    strength: str
    method: AbstractMethod

    @property
    def name(self) -> str:
        """Family and strength."""
        return f"{self.family} {self.strength}".rstrip()


def members(baselines: Baselines) -> list[Member]:
    """All methods, family by family.

    Raises:
        InputError: if a family is empty, a name is taken, or a method needs a target length.
    """
    found = []
    for name, given in baselines.items():
        if name in (TILT, BUDGET):
            raise InputError(f"a baseline cannot be called {name!r}, which names a curve of its own; rename it.")
        if not given:
            raise InputError(f"the baseline {name!r} must name at least one method, got none; give one or remove it.")
        family = given if isinstance(given, dict) else {"": given}
        # YAML reads a strength without quotes as a number
        found += [Member(name, str(strength), method) for strength, method in family.items()]
    for member in found:
        if member.method.uses_target:
            raise InputError(
                f"the baseline {member.name!r} needs a target length, but here there is none; give its own start."
            )
    return found

"""Rules: how predicted lengths change the distribution of the next token (DESIGN section 5)."""

from lenvm.decoding.rules.at_least import AtLeast
from lenvm.decoding.rules.at_most import AtMost
from lenvm.decoding.rules.base import AbstractRule
from lenvm.decoding.rules.entropy_gate import EntropyGate
from lenvm.decoding.rules.equal_to import EqualTo
from lenvm.decoding.rules.match_horizon import MatchHorizon
from lenvm.decoding.rules.per_row import PerRow
from lenvm.decoding.rules.scale_horizon import ScaleHorizon
from lenvm.decoding.rules.solve import solve_tilt
from lenvm.decoding.rules.tilt import Tilt
from lenvm.decoding.rules.value_floor import ValueFloor

__all__ = [
    "AbstractRule",
    "AtLeast",
    "AtMost",
    "EntropyGate",
    "EqualTo",
    "MatchHorizon",
    "PerRow",
    "ScaleHorizon",
    "solve_tilt",
    "Tilt",
    "ValueFloor",
]

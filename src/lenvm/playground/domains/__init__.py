"""The playground's three procedural domains, as in the paper: math, code and instruction following."""

from lenvm.playground.domains.base import ANSWER_MARKER, AbstractDomain, Problem, write_solution
from lenvm.playground.domains.code import CodeDomain
from lenvm.playground.domains.instruction import InstructionDomain
from lenvm.playground.domains.math import MathDomain

DOMAINS: dict[str, AbstractDomain] = {d.name: d for d in (MathDomain(), CodeDomain(), InstructionDomain())}

__all__ = [
    "ANSWER_MARKER",
    "DOMAINS",
    "AbstractDomain",
    "CodeDomain",
    "InstructionDomain",
    "MathDomain",
    "Problem",
    "write_solution",
]

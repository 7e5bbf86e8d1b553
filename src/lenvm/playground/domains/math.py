"""Sums of two to seven terms, solved from left to right."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from lenvm.playground.domains.base import AbstractDomain, Problem, draw_hint

_QUESTIONS = ("What is {}?", "Compute {}.", "Find the value of {}.")
_ORDINALS = ("First", "Next", "Then")
_LARGEST_TOTAL = 60
_LARGEST_TERM = 12


@dataclass(frozen=True, kw_only=True)
class MathDomain(AbstractDomain):
    """Additions and subtractions whose running total stays between 0 and 60.

    Args:
        min_terms: fewest numbers in a sum.
        max_terms: most numbers in a sum.
    """

    name: ClassVar[str] = "math"
    min_terms: int = 2
    max_terms: int = 7

    def problem(self, rng: Random) -> Problem:
        total = rng.randint(1, _LARGEST_TERM)
        expression, totals, equations = str(total), [total], []
        for _ in range(rng.randint(self.min_terms, self.max_terms) - 1):
            term = rng.randint(1, _LARGEST_TERM)
            sign = rng.choice([s for s in (1, -1) if 0 <= total + s * term <= _LARGEST_TOTAL])
            change = f"{'+' if sign > 0 else '-'}{term}"
            equations.append(f"{total}{change}={total + sign * term}.")
            expression += change
            total += sign * term
            totals.append(total)
        hint = draw_hint(rng)
        chain = ",".join(str(t) for t in totals) + "."
        return Problem(
            domain=self.name,
            prompt=rng.choice(_QUESTIONS).format(expression) + hint,
            reference=str(total),
            answer=str(total),
            steps={
                "terse": [chain],
                "normal": equations,
                "verbose": [
                    "Let me solve this step by step.",
                    *(
                        f"{_ORDINALS[min(i, 2)]}, we compute {e} So the total is now {t}."
                        for i, (e, t) in enumerate(zip(equations, totals[1:], strict=True))
                    ),
                ],
            },
            recheck=chain,
            hint=hint,
        )

    def is_correct(self, answer: str, reference: str) -> bool:
        return answer == reference

"""Small Python programs whose printed output has to be found by tracing them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import ClassVar

from lenvm.playground.domains.base import AbstractDomain, Problem, draw_hint

_QUESTION = "What does this program print?\n{}"
_VARIABLES = "xyabnk"


@dataclass(frozen=True, kw_only=True)
class CodeDomain(AbstractDomain):
    """A loop that changes one variable by a constant, traced round by round.

    Args:
        max_rounds: most rounds a loop may run; the fewest is one.
    """

    name: ClassVar[str] = "code"
    max_rounds: int = 8

    def problem(self, rng: Random) -> Problem:
        rounds, change, name = rng.randint(1, self.max_rounds), rng.randint(1, 9), rng.choice(_VARIABLES)
        sign = rng.choice((1, -1))
        start = rng.randint(0, 20) if sign > 0 else rng.randint(rounds * change, rounds * change + 20)
        operator = "+" if sign > 0 else "-"
        values = [start + sign * change * i for i in range(rounds + 1)]
        program = f"{name}={start}\nfor i in range({rounds}):\n {name}{operator}={change}\nprint({name})"
        hint = draw_hint(rng)
        chain = ",".join(str(v) for v in values) + "."
        return Problem(
            domain=self.name,
            prompt=_QUESTION.format(program) + hint,
            reference=str(values[-1]),
            answer=str(values[-1]),
            steps={
                "terse": [chain],
                "normal": [f"i={i}: {name}={v}." for i, v in enumerate(values[1:])],
                "verbose": [
                    f"The program starts with {name}={start}.",
                    *(
                        f"In round {i}, {name} becomes {before}{operator}{change}={after}."
                        for i, (before, after) in enumerate(pairwise(values))
                    ),
                    "The loop is over.",
                ],
            },
            recheck=chain,
            hint=hint,
        )

    def is_correct(self, answer: str, reference: str) -> bool:
        return answer == reference

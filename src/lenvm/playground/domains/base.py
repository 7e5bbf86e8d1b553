"""What a playground domain is: problems made from a seed, written out in three manners, graded by rule.

Length is decided partly by the prompt (how many steps it asks for, and a hint such as "Be brief.") and partly by
chance (the manner, and how often a step is checked again), so a length value model has something to learn at the
prompt boundary *and* at every token. A short correct answer exists for every problem, and every answer can be made
longer by checking it once more, which is what makes steering possible in both directions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Literal

Manner = Literal["terse", "normal", "verbose"]
MANNERS: tuple[Manner, ...] = ("terse", "normal", "verbose")
ANSWER_MARKER = "Answer:"

_HINTS: dict[str, tuple[float, float, float]] = {
    "": (0.30, 0.40, 0.30),
    " Be brief.": (0.65, 0.25, 0.10),
    " Explain in detail.": (0.10, 0.25, 0.65),
}
_HINT_WEIGHTS = (0.6, 0.2, 0.2)
_RECHECK_PROBABILITY: dict[Manner, float] = {"terse": 0.02, "normal": 0.15, "verbose": 0.30}
_RECHECK_WORDS = ("Wait, let me check again:", "Hmm, is that right?", "Wait, once more:")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A prompt, its gold answer, and everything needed to write a correct solution in any manner.

    Args:
        domain: `math`, `code` or `instruction`.
        prompt: what the user asks, without chat template.
        reference: the gold answer, as `AbstractDomain.grade` wants it.
        answer: one correct text to stand after the answer marker.
        steps: per manner, the solution written out step by step.
        recheck: the shortest text that goes through the solution once more.
        hint: the length hint that the prompt ends with; empty for none.
    """

    domain: str
    prompt: str
    reference: str
    answer: str
    steps: dict[Manner, list[str]]
    recheck: str
    hint: str


class AbstractDomain(ABC):
    """A family of procedural problems with one grader."""

    name: ClassVar[str]

    @abstractmethod
    def problem(self, rng: Random) -> Problem:
        """Draws one problem; equal seeds give equal problems."""

    @abstractmethod
    def is_correct(self, answer: str, reference: str) -> bool:
        """Whether the text after the answer marker is right."""

    def grade(self, completion: str, reference: str) -> bool:
        """Whether a completion, without its end-of-text token, gives the right final answer."""
        _, marker, answer = completion.rpartition(ANSWER_MARKER)
        return bool(marker) and self.is_correct(answer.strip(), reference)


def draw_hint(rng: Random) -> str:
    """One of the length hints a prompt may end with; most prompts have none."""
    return rng.choices(tuple(_HINTS), _HINT_WEIGHTS)[0]


def write_solution(problem: Problem, rng: Random) -> str:
    """Writes one correct completion: the manner and the number of re-checks are left to chance."""
    manner = rng.choices(MANNERS, _HINTS[problem.hint])[0]
    again = _RECHECK_PROBABILITY[manner]
    parts = list(problem.steps[manner])
    while rng.random() < again:
        parts.append(f"{rng.choice(_RECHECK_WORDS)} {problem.recheck} Yes.")
    parts.append(f"{ANSWER_MARKER} {problem.answer}")
    return " ".join(parts)

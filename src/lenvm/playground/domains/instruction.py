"""Lists, spelling and counting: following an instruction whose answer has a length of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from lenvm.playground.domains.base import AbstractDomain, Problem, draw_hint

ITEMS: dict[str, tuple[str, ...]] = {
    "animals": ("cat", "dog", "horse", "cow", "fish", "bird", "lion", "mouse", "sheep", "frog"),
    "fruits": ("apple", "pear", "plum", "lemon", "melon", "grape", "peach", "mango", "kiwi", "fig"),
    "colors": ("red", "blue", "green", "white", "black", "pink", "gray", "brown", "gold", "purple"),
    "tools": ("hammer", "saw", "drill", "knife", "rope", "nail", "brush", "spoon", "needle", "axe"),
}


@dataclass(frozen=True, kw_only=True)
class InstructionDomain(AbstractDomain):
    """Asks for a list of things, the letters of a word, or the numbers of a range, in equal shares.

    Args:
        max_items: most things in a list, and most numbers in a range.
    """

    name: ClassVar[str] = "instruction"
    max_items: int = 9

    def problem(self, rng: Random) -> Problem:
        makers: tuple[Callable[[Random], tuple[str, str, str, list[str]]], ...] = (self._list, self._spell, self._count)
        request, reference, subject, parts = rng.choice(makers)(rng)
        hint = draw_hint(rng)
        answer = ",".join(parts)
        return Problem(
            domain=self.name,
            prompt=request + hint,
            reference=reference,
            answer=answer,
            steps={
                "terse": [],
                "normal": [f"{i}. {part};" for i, part in enumerate(parts, 1)],
                "verbose": [
                    f"Sure, here {subject} you asked for.",
                    *(f"Number {i} is {part}, so we write {part}." for i, part in enumerate(parts, 1)),
                    "That is all of it.",
                ],
            },
            recheck=answer + ".",
            hint=hint,
        )

    def _list(self, rng: Random) -> tuple[str, str, str, list[str]]:
        kind, count = rng.choice(tuple(ITEMS)), rng.randint(2, self.max_items)
        request = rng.choice(("List {} {}.", "Name {} {}.", "Give me {} {}.")).format(count, kind)
        # always in this order from a random start, so that naming no thing twice is within reach of a tiny model
        start = rng.randrange(len(ITEMS[kind]))
        things = [ITEMS[kind][(start + i) % len(ITEMS[kind])] for i in range(count)]
        return request, f"{count} {kind}", f"are the {kind}", things

    def _spell(self, rng: Random) -> tuple[str, str, str, list[str]]:
        word = rng.choice(ITEMS[rng.choice(tuple(ITEMS))])
        request = rng.choice(("Spell the word {}.", "How do you spell {}?")).format(word)
        return request, ",".join(word), "are the letters", list(word)

    def _count(self, rng: Random) -> tuple[str, str, str, list[str]]:
        first, count = rng.randint(1, 40), rng.randint(2, self.max_items)
        numbers = [str(n) for n in range(first, first + count)]
        request = f"Count from {numbers[0]} to {numbers[-1]}."
        return request, ",".join(numbers), "are the numbers", numbers

    def is_correct(self, answer: str, reference: str) -> bool:
        count, _, kind = reference.partition(" ")
        if not kind:
            return answer == reference
        given = answer.split(",")
        return len(given) == len(set(given)) == int(count) and set(given) <= set(ITEMS[kind])

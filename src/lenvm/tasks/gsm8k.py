"""GSM8K: grade-school mathematics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lenvm.data.rollout import BadRowError, Rollout
from lenvm.tasks.base import Part
from lenvm.tasks.dataset import AbstractDatasetTask, text_in
from lenvm.tasks.mathematics import grade_math
from lenvm.tasks.templates import MATH

_MARK = "####"


@dataclass(frozen=True, kw_only=True)
class GSM8K(AbstractDatasetTask):
    """GSM8K with its own training and test questions.

    Args:
        source: the dataset's name on the hub, or a local folder with train and test files (or one of the two) that have
            `question` and `answer`, the answer ending in `#### N`.
        revision: branch, tag or commit on the hub.
        template: the user's message, with `{question}` where the question goes; the paper's by default.
        domain: the domain of all prompts.
    """

    config: ClassVar[str | None] = "main"
    splits: ClassVar[Mapping[Part, str]] = {"train": "train", "test": "test"}
    columns: ClassVar[tuple[str, ...]] = ("question", "answer")

    source: str = "openai/gsm8k"
    template: str = MATH
    domain: str = "math"

    def grade(self, prompt: Rollout, completion: str) -> bool | None:
        return grade_math(prompt, completion)

    def _rollouts(self, row: Mapping[str, Any]) -> Iterable[Rollout]:
        question = text_in(row, "question")
        _, mark, number = text_in(row, "answer").rpartition(_MARK)
        reference = number.strip().replace(",", "")
        if not (mark and reference):
            raise BadRowError(f"`answer` does not end in `{_MARK} N`")
        yield self._asked(question, reference=reference)

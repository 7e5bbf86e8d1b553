"""DeepMath-103K: difficult mathematics with verifiable answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lenvm.data.rollout import Rollout
from lenvm.tasks.base import Part
from lenvm.tasks.dataset import AbstractDatasetTask, answer_in, text_in
from lenvm.tasks.mathematics import grade_math
from lenvm.tasks.templates import MATH


@dataclass(frozen=True, kw_only=True)
class DeepMath(AbstractDatasetTask):
    """DeepMath-103K, the paper's mathematical training prompts; a tenth of the questions is `test`.

    Args:
        source: the dataset's name on the hub, or a local folder or file with `question` and `final_answer`.
        revision: branch, tag or commit on the hub.
        template: the user's message, with `{question}` where the question goes; the paper's by default.
        domain: the domain of all prompts.
    """

    splits: ClassVar[Mapping[Part, str]] = {"all": "train"}
    columns: ClassVar[tuple[str, ...]] = ("question", "final_answer")

    source: str = "zwhe99/DeepMath-103K"
    template: str = MATH
    domain: str = "math"

    def grade(self, prompt: Rollout, completion: str) -> bool | None:
        return grade_math(prompt, completion)

    def _rollouts(self, row: Mapping[str, Any]) -> Iterable[Rollout]:
        yield self._asked(text_in(row, "question"), reference=answer_in(row, "final_answer"))

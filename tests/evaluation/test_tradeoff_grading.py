from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from lenvm.data.rollout import Rollout
from lenvm.evaluation.blocks import Block
from lenvm.evaluation.prompts import TaskPrompts, load_prompts
from lenvm.evaluation.tradeoff.grading import graded
from lenvm.evaluation.tradeoff.outcomes import written
from lenvm.tasks import GSM8K, AbstractTask
from lenvm.tasks.base import Part, TaskPrompt

QUESTIONS = Path(__file__).parent.parent.parent.parent / "shared" / "data" / "gsm8k" / "test.jsonl"


def block_of(rows: list[tuple[int, str, bool]]) -> Block:
    """Completions given as prompt, text, whether it ended."""
    prompt, text, natural = zip(*rows, strict=True)
    ones = np.ones(len(rows))
    lengths = np.full(len(rows), 3)
    return Block(
        np.array(prompt), np.arange(len(rows)), list(text), [[5] * 3] * len(rows), lengths, np.array(natural), ones,
        ones, 1.0,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Counting(AbstractTask):
    """Right is the reference; remembers what it was asked."""

    asked: list[str] = field(default_factory=list, repr=False)

    def prompts(self, part: Part, seed: int, domain: str | None = None) -> Iterator[TaskPrompt]:
        yield from ()

    def grade(self, prompt: Rollout, completion: str) -> bool | None:
        self.asked.append(completion)
        return completion == prompt.reference


def test_a_text_is_graded_once_for_its_prompt_and_grades_are_read_again(tmp_path: Path) -> None:
    task = Counting()
    prompts = TaskPrompts(task, [Rollout(prompt="p", prompt_id=str(i), reference=str(i)) for i in range(2)])
    first = block_of([(0, "0", True), (0, "0", True), (0, "1", True), (1, "1", True), (1, "0", False)])
    second = block_of([(0, "0", True), (1, "1", True), (1, "2", True), (1, "1", True)])
    rights = graded({"a": first, "b": second}, prompts, tmp_path)
    assert rights[0].tolist() == [True, True, False, True, False]
    assert rights[1].tolist() == [True, True, False, True]
    # four pairs of prompt and text; that a completion was cut is no question for a grader
    assert task.asked.count("2") == 1
    texts = [text for text in task.asked if text]
    assert sorted(texts) == ["0", "1", "1", "2"]
    task.asked.clear()
    again = graded({"a": first, "b": second}, prompts, tmp_path)
    assert [r.tolist() for r in again] == [r.tolist() for r in rights]
    assert task.asked == []
    # another reference is another question
    changed = TaskPrompts(task, [replace(rollout, reference="2") for rollout in prompts.rollouts])
    assert graded({"b": second}, changed, tmp_path)[0].tolist() == [False, False, True, False]


@pytest.mark.skipif(not QUESTIONS.is_file(), reason="the real data (../shared/data/gsm8k) is not on this machine")
def test_gsm8k_is_graded_by_math_verify(tmp_path: Path) -> None:
    prompts = load_prompts(GSM8K(source=str(QUESTIONS)), "test", 2, 0)
    answers = [str(rollout.reference) for rollout in prompts.rollouts]
    right = [rf"So it is $\boxed{{{answers[0]}}}$.", f"First 3, then the answer is {answers[0]}.0", f"{answers[0]}"]
    wrong = [rf"\boxed{{{answers[0]}1}}", "I do not know.", ""]
    block = block_of([*((0, text, True) for text in (*right, *wrong)), *((1, f"\\boxed{{{answers[1]}}}", e) for e in
                      (True, False) for _ in range(3))])  # fmt: skip
    found = graded({"plain": block}, prompts, tmp_path)[0]
    assert found.tolist() == [True] * 3 + [False] * 3 + [True] * 3 + [False] * 3
    outcome = written("plain", "", block, found, [1, 2])
    assert outcome.accuracy == pytest.approx(0.5)
    assert outcome.pass_at[2] == pytest.approx([1 - 3 / 15] * 2)

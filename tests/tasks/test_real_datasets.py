"""Real datasets that lie beside the project; skipped where they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from task_examples import png

from lenvm.data.rollout import Rollout
from lenvm.tasks import GSM8K, MATH500, AbstractTask, LIFEBench, MathVista, Table

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data (../shared/data) is not on this machine")


def prompts(task: AbstractTask, part: Any = "all") -> list[Rollout]:
    rows = list(task.prompts(part, 0))
    assert [row.problem for row in rows if row.problem] == []
    return [row.rollout for row in rows if row.rollout]


def column(path: Path, name: str) -> list[str]:
    return [json.loads(line)[name] for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_gsm8k_has_its_published_numbers_and_numbers_as_answers() -> None:
    task = GSM8K(source=str(SHARED / "gsm8k"))
    train, test = prompts(task, "train"), prompts(task, "test")
    assert (len(train), len(test)) == (7473, 1319)
    assert len({rollout.prompt_id for rollout in [*train, *test]}) == 8792
    for rollout in [*train, *test]:
        float(rollout.reference or "")
    assert [rollout.reference for rollout in test[:5]] == ["18", "3", "70000", "540", "20"]


def test_the_worked_answers_of_gsm8k_are_right_and_those_of_others_are_not() -> None:
    task = GSM8K(source=str(SHARED / "gsm8k"))
    solutions = column(SHARED / "gsm8k" / "test.jsonl", "answer")
    test = prompts(task, "test")[:200]
    assert all(task.grade(rollout, solution) for rollout, solution in zip(test, solutions, strict=False))
    shifted = [task.grade(rollout, solution) for rollout, solution in zip(test, solutions[1:], strict=False)]
    same = sum(a.reference == b.reference for a, b in zip(test, prompts(task, "test")[1:], strict=False))
    assert sum(map(bool, shifted)) == same


def test_the_worked_solutions_of_math500_are_right_and_those_of_others_are_not() -> None:
    task = MATH500(source=str(SHARED / "math500"))
    rollouts = prompts(task)
    solutions = column(SHARED / "math500" / "test.jsonl", "solution")
    assert len({rollout.prompt_id for rollout in rollouts}) == 500
    assert all(task.grade(rollout, solution) for rollout, solution in zip(rollouts, solutions, strict=True))
    shifted = [task.grade(rollout, solution) for rollout, solution in zip(rollouts, solutions[1:], strict=False)]
    assert sum(map(bool, shifted)) == 3  # 7 and 7, 3 and 3, 5 and x=5


def test_lifebench_has_eighteen_prompts_per_item() -> None:
    whole = prompts(LIFEBench(source=str(SHARED / "lifebench" / "data_no_summary.jsonl")))
    lite = prompts(LIFEBench(source=str(SHARED / "lifebench" / "data_lite_no_summary.jsonl")))
    assert (len(whole), len(lite)) == (320 * 18, 55 * 18)
    assert len({rollout.prompt_id for rollout in whole}) == 319 * 18  # one item is there twice
    for rollout in whole:
        assert isinstance(rollout.prompt, list)
        text = rollout.prompt[0]["content"]
        assert "{word_count" not in text
        assert " tokens long." in text or "token数" in text


def test_mathvista_grades_its_own_answers(tmp_path: Path) -> None:
    path = SHARED / "mathvista" / "testmini.json"
    task = MathVista(source=str(path))
    assert sum("/images/" in str(row.problem) for row in task.prompts("test", 0)) == 1000  # no image is there
    (tmp_path / "images").mkdir()
    for number in range(1, 1001):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(png(0))
    rollouts = prompts(MathVista(source=str(path), images=tmp_path))
    assert len({rollout.prompt_id for rollout in rollouts}) == 1000
    for rollout in rollouts:
        choices = (rollout.metadata or {}).get("choices")
        if not choices:
            assert task.grade(rollout, f"\\boxed{{{rollout.reference}}}") is True
            assert task.grade(rollout, "\\boxed{12345678}") is False
            continue
        for number, choice in enumerate(choices):
            assert task.grade(rollout, f"\\boxed{{{chr(65 + number)}}}") is (choice == rollout.reference)


def test_a_table_reads_rollouts_and_datasets() -> None:
    castillo = Table(source=str(SHARED / "castillo"))
    assert len(prompts(castillo)) == 18_666
    assert len(prompts(castillo, "train")) + len(prompts(castillo, "test")) == 18_666
    math = Table(source=str(SHARED / "math500"), columns={"prompt": "problem", "reference": "answer"})
    assert len(prompts(math)) == 500

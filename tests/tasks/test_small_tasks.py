from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from task_examples import write_lines

from lenvm.errors import InputError
from lenvm.playground.corpus import is_held_out
from lenvm.playground.domains import DOMAINS, write_solution
from lenvm.tasks import GSM8K, Mixture, Playground, Table, Texts


def test_texts_are_prompts_as_they_are_each_once() -> None:
    rows = list(Texts(texts=["a", "b {question}", "a"]).prompts("all", 0))
    assert [(row.place, row.rollout.prompt) for row in rows if row.rollout] == [
        ("text 1", "a"),
        ("text 2", "b {question}"),
    ]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ([], "`texts` is empty; give at least one prompt"),
        (["a", ""], "`texts` must be prompts that are not empty, got '' in place 2"),
        ([" \n"], "got ' .n' in place 1"),
    ],
)
def test_texts_must_be_there(texts: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Texts(texts=texts)


def test_the_playground_s_parts_are_its_own_held_out_split() -> None:
    for part, held_out in (("train", [False] * 30), ("test", [True] * 30), ("all", ([False] * 9 + [True]) * 3)):
        rows = list(islice(Playground().prompts(part, 0), 30))  # type: ignore[arg-type]
        assert [is_held_out(row.rollout.prompt[0]["content"]) for row in rows if row.rollout] == held_out  # type: ignore[index]


def test_the_playground_gives_its_domains_in_turn_or_one_of_them() -> None:
    def domains(task: Playground, domain: str | None = None) -> Counter[str | None]:
        return Counter(row.rollout.domain for row in islice(task.prompts("all", 0, domain), 30) if row.rollout)

    assert domains(Playground()) == {"math": 10, "code": 10, "instruction": 10}
    assert domains(Playground(domains=("code",))) == {"code": 30}
    assert domains(Playground(), "math") == {"math": 30}
    assert domains(Playground(domains=("code",)), "math") == {}


def test_the_playground_grades_its_own_solutions() -> None:
    task, rng = Playground(), Random(0)
    for name, domain in DOMAINS.items():
        problem = domain.problem(rng)
        prompt = next(task.prompts("all", 0, name)).rollout
        assert prompt is not None
        right = type(prompt)(prompt="?", prompt_id="1", domain=name, reference=problem.reference)
        assert task.grade(right, write_solution(problem, rng)) is True
        assert task.grade(prompt, "I do not know.") is False


@pytest.mark.parametrize("domains", [("maths",), ()])
def test_the_playground_has_only_its_domains(domains: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="`domains` must be of math, code, instruction, got"):
        Playground(domains=domains)


def test_a_mixture_takes_turns_until_each_task_has_given_all(tmp_path: Path) -> None:
    long = [{"prompt": f"l{i}"} for i in range(4)]
    tasks = {
        "long": Table(source=str(write_lines(tmp_path / "long.jsonl", [*long, {"prompt": ""}]))),
        "short": Texts(texts=["s0", "s1"]),
    }
    rows = list(Mixture(tasks=tasks).prompts("all", 0))
    assert [(row.rollout.prompt, row.rollout.domain) for row in rows if row.rollout] == [
        *(("l0", "long"), ("s0", "short"), ("l1", "long"), ("s1", "short"), ("l2", "long"), ("l3", "long")),
    ]
    assert [row.problem for row in rows] == [None] * 6 + ["empty `prompt`"]
    assert not Mixture(tasks=tasks).is_endless


def test_a_mixture_grades_with_the_task_that_a_prompt_is_from(example: Callable[..., Any]) -> None:
    mixture = example(Mixture)
    assert mixture.is_endless
    school, play = (next(mixture.prompts("test", 0, name)).rollout for name in ("school", "play"))
    assert (school.domain, school.metadata) == ("school", {"domains_within": ["math"]})
    assert (play.domain, play.metadata["domains_within"][0]) == ("play", "x")
    assert mixture.grade(school, f"\\boxed{{{school.reference}}}") is True
    assert mixture.grade(school, "\\boxed{0}") is False
    inner = Playground()
    alone = next(inner.prompts("test", 0)).rollout
    assert alone is not None
    for text in (f"The answer is {play.reference}.", "no"):
        assert mixture.grade(play, text) == inner.grade(alone, text)


def test_a_mixture_does_not_grade_what_is_not_its_own(example: Callable[..., Any]) -> None:
    mixture = example(Mixture)
    prompt = next(example(GSM8K).prompts("test", 0)).rollout
    assert mixture.grade(prompt, f"\\boxed{{{prompt.reference}}}") is None
    with pytest.raises(InputError, match="`tasks` is empty; give at least one task with its name"):
        Mixture(tasks={})

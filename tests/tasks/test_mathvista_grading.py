from __future__ import annotations

from typing import Any

import pytest

from lenvm.data.rollout import Rollout
from lenvm.tasks.mathvista_grading import grade_mathvista

ANGLES = ["135°", "140°", "145°", "150°"]
LENGTHS = ["6cm", "7cm", "4cm", "5cm"]
LETTERS = ["(c)", "(a)", "(b)"]


def question(reference: str | None, **facts: Any) -> Rollout:
    return Rollout(prompt="?", prompt_id="1", reference=reference, metadata=facts or None)


def choice(reference: str, choices: list[str]) -> Rollout:
    return question(reference, question_type="multi_choice", answer_type="text", choices=choices)


def number(reference: str, kind: str = "integer", precision: Any = None) -> Rollout:
    return question(reference, question_type="free_form", answer_type=kind, precision=precision)


CASES = [
    (choice("145°", ANGLES), "\\boxed{C}", True),
    (choice("145°", ANGLES), "\\boxed{(C)}", True),
    (choice("145°", ANGLES), "\\boxed{c}", True),
    (choice("145°", ANGLES), "\\boxed{\\text{C}}", True),
    (choice("145°", ANGLES), "\\boxed{C. 145°}", True),
    (choice("145°", ANGLES), "\\boxed{145°}", True),
    (choice("145°", ANGLES), "\\boxed{145^\\circ}", True),
    (choice("145°", ANGLES), "\\boxed{145}", True),
    (choice("145°", ANGLES), "145 + 5 = 150, so the answer is (C).", True),
    (choice("145°", ANGLES), "**Answer:** C", True),
    (choice("145°", ANGLES), "故选 C，答案是：C", True),
    (choice("145°", ANGLES), "Thus the correct option is (C) 145°", True),
    (choice("145°", ANGLES), "<think>\\boxed{A}</think>\\boxed{C}", True),
    (choice("145°", ANGLES), "\\boxed{B}", False),
    (choice("145°", ANGLES), "\\boxed{E}", False),
    (choice("145°", ANGLES), "\\boxed{140}", False),
    (choice("145°", ANGLES), "\\boxed{C} no \\boxed{A}", False),
    (choice("145°", ANGLES), "A cat sat here", False),
    (choice("145°", ANGLES), "", False),
    (choice("6cm", LENGTHS), "\\boxed{6}", True),
    (choice("6cm", LENGTHS), "\\boxed{6 cm}", True),
    (choice("6cm", LENGTHS), "\\boxed{6\\text{cm}}", True),
    (choice("6cm", LENGTHS), "\\boxed{7}", False),
    (choice("(b)", LETTERS), "\\boxed{C}", True),
    (choice("(b)", LETTERS), "\\boxed{(b)}", True),
    (choice("(b)", LETTERS), "\\boxed{B}", False),
    (choice("E", ["D", "E"]), "\\boxed{B}", True),
    (choice("E", ["D", "E"]), "\\boxed{E}", True),
    (choice("B", ["B", "A"]), "\\boxed{B}", False),
    (choice("Yes", ["Yes", "No"]), "The answer is yes.", True),
    (choice("Yes", ["Yes", "No"]), "The answer is no.", False),
    (number("4"), "\\boxed{4}", True),
    (number("4"), "\\boxed{4.0}", True),
    (number("4"), "\\boxed{4 objects}", True),
    (number("4"), "\\boxed{x = 4}", True),
    (number("4"), "\\boxed{\\frac{8}{2}}", True),
    (number("1000"), "\\boxed{1,000 \\text{ g}}", True),
    (number("1000"), "\\boxed{1{,}000}", True),
    (number("-4"), "\\boxed{\u22124}", True),
    (number("4"), "8 - 4 = 4\nAnswer: 4", True),
    (number("4"), "There are 3 red ones.\n7 - 3 = 4", True),
    (number("4"), "\\boxed{4.2}", False),
    (number("4"), "\\boxed{-4}", False),
    (number("4"), "\\boxed{14}", False),
    (number("4"), "\\boxed{four}", False),
    (number("4"), "I see 4 of them.\nNo idea.", False),
    (number("4"), "", False),
    (number("1.2", "float", 1), "\\boxed{1.2}", True),
    (number("1.2", "float", 1.0), "\\boxed{1.1547}", True),
    (number("1.2", "float", 1), "\\boxed{1.15}", True),
    (number("1.2", "float", 1), "\\boxed{1.24 \\text{ m}}", True),
    (number("1.2", "float", 1), "\\boxed{\\frac{6}{5}}", True),
    (number("1.2", "float", 1), "\\boxed{1.1547 \\approx 1.2}", True),
    (number("130.9", "float", 1), "\\boxed{130.94^\\circ}", True),
    (number("1.2", "float", 1), "\\boxed{1.25}", False),
    (number("1.2", "float", 1), "\\boxed{1.1}", False),
    (number("1.23", "float", 2), "\\boxed{1.234}", True),
    (number("1.23", "float", 2), "\\boxed{1.2}", False),
    (number("0.5", "float", 1), "\\boxed{.5}", True),
    (number("[2014, 2016]", "list"), "\\boxed{[2014, 2016]}", True),
    (number("[2014, 2016]", "list"), "\\boxed{[2014,2016]}", True),
    (number("[2014, 2016]", "list"), "\\boxed{\\left[2014, 2016\\right]}", True),
    (number("[2014, 2016]", "list"), "The answer is 2014 and 2016.", True),
    (number("[0, 2, 0]", "list"), "\\boxed{[0, 2, 0]}", True),
    (number("[0, 2, 0]", "list"), "\\boxed{[0, 2]}", False),
    (number("[2014, 2016]", "list"), "\\boxed{[2016, 2014]}", False),
    (number("[2014, 2016]", "list"), "none", False),
    (question("4"), "\\boxed{4}", True),
    (question("4"), "\\boxed{5}", False),
]


@pytest.mark.parametrize(("prompt", "completion", "right"), CASES)
def test_answers_are_judged_as_they_were_asked_for(prompt: Rollout, completion: str, right: bool) -> None:
    assert grade_mathvista(prompt, completion) is right


def test_without_a_reference_there_is_no_verdict() -> None:
    assert grade_mathvista(question(None, answer_type="integer"), "4") is None


@pytest.mark.parametrize(
    "prompt",
    [
        question("4", question_type="multi_choice", choices=None),
        question("4", question_type="multi_choice", choices=[]),
        question("four", answer_type="integer"),
        question("4", answer_type="float", precision="x"),
        question("4", answer_type="float", precision=-1),
        question("", answer_type="list"),
    ],
)
@pytest.mark.parametrize("completion", ["\\boxed{" + "7" * 3000 + "}", "7.7.7", "[[[", "(Z)", "\\boxed{\\frac{7}{0}}"])
def test_odd_facts_and_odd_answers_are_no_exception(prompt: Rollout, completion: str) -> None:
    assert grade_mathvista(prompt, completion) is False

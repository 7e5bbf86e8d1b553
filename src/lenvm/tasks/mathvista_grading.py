"""Grading MathVista: option letters, whole numbers, numbers to so many places, and lists."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from lenvm.data.rollout import Rollout
from lenvm.tasks.mathematics import boxed_answer, equal_answers

_LONGEST = 500
_MINUS = "\u2212"
_ANNOUNCED = re.compile(r"(?:answer|option|choice)(?:\s+is|\s*[:=\uff1a])+|答案(?:[是为]|\s*[:\uff1a])+", re.IGNORECASE)
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_LAYOUT = re.compile(r"\$|\*\*|\\left|\\right|\\[!,;:]")
_LETTER = re.compile(r"\(?([A-Z])(?:\)|[.:\uff1a]|$)")
_LAST_LETTER = re.compile(r"(?<!\w)\(([A-Z])\)")
_UNITS = re.compile(r"\^\{?\\circ\}?|\\circ|\\[%$ ]|[°%]")
_EQUALS = re.compile(r"=|\u2248|\\approx")
_NUMBER = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|[-+\u2212]?\.\d+")
_ELEMENT = re.compile(r"[-+\u2212]?\d*\.?\d+")


def grade_mathvista(prompt: Rollout, completion: str) -> bool | None:
    r"""Whether a completion answers a MathVista question; what is asked for is read from the prompt's metadata.

    The answer is what the last `\boxed{}` holds, else what follows the last `answer is` or `Answer:`, else the last
    line. Numbers are compared after rounding to the question's precision; a choice by its letter or its text.
    """
    if prompt.reference is None:
        return None
    facts = prompt.metadata or {}
    answer, choices = _answer(completion), facts.get("choices")
    if not answer:
        return False
    if facts.get("question_type") == "multi_choice" and isinstance(choices, list) and choices:
        return _is_choice(answer, prompt.reference, [str(choice) for choice in choices])
    if facts.get("answer_type") == "list":
        return _is_list(answer, prompt.reference)
    if facts.get("answer_type") in ("integer", "float"):
        return _is_number(answer, prompt.reference, facts.get("precision"))
    return equal_answers(prompt.reference, answer)


def _answer(completion: str) -> str:
    text = completion.rpartition("</think>")[2]
    found = boxed_answer(text)
    if found is None:
        tail = text.rstrip()[-4 * _LONGEST :]
        announced = list(_ANNOUNCED.finditer(tail))
        rest = tail[announced[-1].end() :].strip() if announced else ""
        found = rest.partition("\n")[0] or tail.rpartition("\n")[2][-_LONGEST:]
    return _LAYOUT.sub("", _WRAPPED.sub(r"\1", found)).strip().rstrip(".").strip()[:_LONGEST]


def _is_choice(answer: str, reference: str, choices: list[str]) -> bool:
    is_letter = len(answer.strip("()")) == 1
    # options have capital letters; "(b)" may be the text of a choice
    if any(answer == choice if is_letter else _same(choice, answer) for choice in choices) and not answer.isupper():
        return _same(reference, answer)
    answer = answer.upper() if is_letter else answer
    letter = _LETTER.match(answer)
    letters = [letter[1]] if letter else _LAST_LETTER.findall(answer)
    if letters and (number := ord(letters[-1]) - ord("A")) < len(choices):
        return _same(choices[number], reference)
    # "145" for the choice "145°", if it is not another choice as well
    bare = _UNITS.sub("", answer)
    equal = [choice for choice in choices if equal_answers(_UNITS.sub("", choice), bare)]
    return bool(equal) and all(_same(choice, reference) for choice in equal)


def _is_number(answer: str, reference: str, precision: Any) -> bool:
    plain = _EQUALS.split(_UNITS.sub("", answer))[-1].replace("{,}", ",").strip()
    numbers, wanted = _NUMBER.findall(plain), _decimal(reference)
    if wanted is None or not numbers or any(mark in plain for mark in "\\/^"):
        return equal_answers(reference, answer)
    given = _decimal(numbers[0] if _NUMBER.match(plain) else numbers[-1])
    return given is not None and _rounded(given, precision) == _rounded(wanted, precision)


def _is_list(answer: str, reference: str) -> bool:
    wanted = _elements(reference)
    return bool(wanted) and _elements(answer) == wanted


def _elements(text: str) -> list[Decimal | None]:
    """The numbers of a list; a comma is between two of them here, never inside of one."""
    inside = re.findall(r"\[([^\[\]]*)\]", text)
    return [_decimal(number) for number in _ELEMENT.findall(inside[-1] if inside else text)]


def _rounded(number: Decimal, precision: Any) -> Decimal:
    if not isinstance(precision, int | float) or not 0 <= precision <= 20:
        return number
    try:
        return number.quantize(Decimal(1).scaleb(-int(precision)), rounding=ROUND_HALF_UP)
    except InvalidOperation:  # more digits than a Decimal holds
        return number


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.strip().replace(",", "").replace(_MINUS, "-"))
    except InvalidOperation:
        return None


def _same(one: str, other: str) -> bool:
    return "".join(one.split()).casefold() == "".join(other.split()).casefold()

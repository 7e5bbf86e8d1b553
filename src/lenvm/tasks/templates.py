"""The texts that questions are put into: the published ones, and how any of them is filled."""

from __future__ import annotations

from lenvm.errors import InputError

QUESTION = "{question}"
MATH = "Please reason step by step, and put your final answer within \\boxed{}.\n\n{question}"
INSTRUCTION = "Please follow the instructions below.\n\n{question}"
PYTHON = (
    "Please solve the programming task below in Python step by step and then provide the complete solution in a "
    "single Python code block.\n\n{question}"
)
OPEN_QUESTION = "Please reason step by step, and provide your final answer at the end.\n\n{question}"


def check_template(template: str, name: str = "template") -> None:
    """Makes sure that a template has a place for the question.

    Raises:
        InputError: if it has none.
    """
    if QUESTION not in template:
        raise InputError(f"`{name}` must contain {QUESTION} where the question goes, got {template!r}.")


def filled(template: str, question: str) -> str:
    """The template with a question in it. Other braces stay as they are, in the template and in the question."""
    return template.replace(QUESTION, question)

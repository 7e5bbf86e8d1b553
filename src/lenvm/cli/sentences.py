"""The errors of jsonargparse, which are trees of lines, as sentences."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import NamedTuple

_UNION = "Does not validate against any of the Union subtypes"
_KEY = re.compile(r'Parser key "(.*?)"(?: element \d+)?:\s')
_CLASS = re.compile(r"Problem with given class_path '(.*?)':\n")
_WANTED = re.compile(r"Expected an? ((?:<class|typing\.|list|dict|tuple|set).*?)(?:\. Got value: (.*))?", re.DOTALL)
_NO_CLASS = re.compile(r"Expected a dot import path string: (.*)")
_NESTED = re.compile(r"NestedArg\(key='(.*?)', val=.*\)", re.DOTALL)
_NO_PATH = re.compile(r"- Expected a path but .* either not accessible or invalid\n- ")
_READABLE = {
    "NoneType": "null",
    "Path": "a path",
    "bool": "true or false",
    "dict": "names with values, as in '{a: b}'",
    "float": "a number",
    "int": "a whole number",
    "list": "a list, as in '[a, b]'",
    "str": "a text",
    "tuple": "a list, as in '[a, b]'",
}
_SHOWN = 200


class _Problem(NamedTuple):
    """What is wrong, and where.

    Attributes:
        told: the end of a sentence that begins with the option's name, or a sentence of its own.
        option: names of what is within each other, joined by dots.
        wanted: the type that the value does not have, if nothing else is wrong.
        is_end: whether `told` is the end of a sentence.
    """

    told: str
    option: str = ""
    wanted: str | None = None
    is_end: bool = True


def is_about_types(message: str) -> bool:
    """Whether an error says of several types that a value is of none of them."""
    return message.startswith(_UNION)


def sentence(message: str, command: str) -> str:
    """What an error of jsonargparse says, without a stop at its end.

    Args:
        message: the error's text.
        command: the command's name, for what is missing from it.
    """
    told, option, _, is_end = _problem(message)
    told = _shortened(" ".join(told.split()).rstrip("."))
    if is_end:
        return f"`{option or command}` {told}"
    return f"`{option}`: {told}" if option else told


def _problem(message: str) -> _Problem:
    message = _NO_PATH.sub("", message.strip())
    if key := _KEY.match(message):
        inner = _problem(dedent(message[key.end() :]))
        return inner._replace(option=".".join(filter(None, (key[1], inner.option))))
    if name := _CLASS.match(message):
        return _problem(dedent(message[name.end() :]))
    if message.startswith(_UNION):
        return _of_union(message)
    if found := _WANTED.fullmatch(message):
        wanted = _readable(found[1])
        told = f"must be {wanted}, got {_shortened(repr(found[2]))}{_hint(wanted, found[2] or '')}"
        return _Problem(told, wanted=wanted)
    if found := re.fullmatch(r"--(\S+)\.help: " + _NO_CLASS.pattern, message):
        return _Problem(f"must name a class, got {found[2]!r}", found[1])
    if found := _NO_CLASS.fullmatch(message):
        return _Problem(f"must name a class, got {found[1]!r}", wanted="the name of a class")
    if found := re.fullmatch(r"Option '(.*)' is not accepted", message):
        return _Problem("is not an option of this class", found[1])
    if found := re.fullmatch(r"the following arguments are required: (.*)", message):
        return _Problem("needs " + " and ".join(f"`{name}`" for name in found[1].split(", ")))
    return _Problem(message, is_end=False)


def _of_union(message: str) -> _Problem:
    """The one thing that is wrong with a value that could have been of several types."""
    tried, _, given = message.partition("\nErrors:\n")[2].partition("\nGiven value type:")
    value = given.partition("\nGiven value: ")[2]
    branches = [_level(branch) for branch in re.split(r"^- ", dedent(tried), flags=re.MULTILINE)[1:]]
    problems = [_problem(branch) for branch in branches]
    for problem in problems:  # that of a type that was meant: the others do not go beyond being another type
        if problem.wanted is None or problem.option:
            return problem
    names = [found[1] for branch in branches if (found := _NO_CLASS.fullmatch(branch))]
    if names and (nested := _NESTED.fullmatch(value)):
        return _Problem(f"is an option of a class, and {names[0]!r} is not the name of one", nested[1])
    wanted = " or ".join(dict.fromkeys(problem.wanted or "" for problem in problems))
    return _Problem(f"must be {wanted}, got {_shortened(repr(value))}{_hint(wanted, value)}", wanted=wanted)


def _hint(wanted: str, value: str) -> str:
    """What to do about a text with a colon, which YAML reads as a name with a value."""
    is_split = _READABLE["str"] in wanted and value.startswith("{")
    return "; give a text with a colon in it in a file with `--config`" if is_split else ""


def _level(branch: str) -> str:
    """A branch whose first line stands beside the dash, and the others are indented by as much."""
    first, _, rest = branch.strip().partition("\n")
    return f"{first}\n{dedent(rest)}" if rest else first


def _readable(kind: str) -> str:
    if choice := re.fullmatch(r"typing\.Literal\[(.*)\]", kind):
        return f"one of {choice[1]}"
    name = re.sub(r"<class '(?:.*\.)?(\w+)'>", r"\1", kind)
    return _READABLE.get(name, name)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."

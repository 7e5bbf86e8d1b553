"""Prompts from a file or from the command line."""

from __future__ import annotations

from pathlib import Path

from lenvm.data.reading import find_files, read_rows
from lenvm.data.rollout import BadRowError, Rollout, parse_prompt
from lenvm.errors import InputError


def read_prompts(source: Path | list[str]) -> list[Rollout]:
    """Different prompts in their order, each with what its row says of it and without a completion.

    Args:
        source: a file or folder whose rows have a `prompt` (and perhaps prompt_id, domain, reference), or texts.

    Raises:
        InputError: if there is no such file, or if a row has no usable prompt.
    """
    if isinstance(source, list):
        try:
            return [parse_prompt({"prompt": text}) for text in dict.fromkeys(source)]
        except BadRowError as error:
            raise InputError(f"`prompts`: {error}.") from error
    files = find_files([source])
    if files is None:
        raise InputError(f"{source} does not exist; expected a file or folder of rows with a `prompt`.")
    found: dict[str, Rollout] = {}
    for row in read_rows(files):
        try:
            prompt = parse_prompt(row.content)
        except BadRowError as error:
            raise InputError(f"{row.place}: {error}.") from error
        found.setdefault(prompt.prompt_id, prompt)
    return list(found.values())

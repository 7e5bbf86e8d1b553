"""A task from what people give for one: an object, a file of prompts, or texts."""

from __future__ import annotations

import inspect
from pathlib import Path

from lenvm import tasks
from lenvm.errors import InputError
from lenvm.tasks.base import AbstractTask
from lenvm.tasks.table import Table
from lenvm.tasks.texts import Texts


def task_of(given: AbstractTask | list[str] | str) -> AbstractTask:
    """The task itself; of a list, its texts; of a text, the file or hub dataset of that name.

    Raises:
        InputError: if there is no such file, and the text cannot be a dataset's name.
    """
    if isinstance(given, list):
        return Texts(texts=given)
    if isinstance(given, AbstractTask):
        return given
    if not Path(given).exists() and "/" not in given:
        names = ", ".join(sorted(cls.__name__ for cls in vars(tasks).values() if _is_final(cls)))
        raise InputError(f"`task` must be a file of prompts that exists, or one of {names}; got {given!r}.")
    return Table(source=given)


def _is_final(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, AbstractTask) and not inspect.isabstract(cls)

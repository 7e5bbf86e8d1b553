"""Objects as class path and arguments: how they are written in YAML, config.json and checkpoints."""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeVar

from lenvm.errors import InputError

T = TypeVar("T")


def describe(instance: object, init_args: dict[str, Any]) -> dict[str, Any]:
    """`{"class_path": ..., "init_args": ...}` of an object; the path is the one users write."""
    return {"class_path": f"{type(instance).__module__}.{type(instance).__qualname__}", "init_args": init_args}


def build(description: dict[str, Any], base: type[T], *args: Any) -> T:
    """The object that `describe` described.

    Args:
        description: `class_path` and `init_args`.
        base: the class it has to be a subclass of.
        *args: positional arguments to pass first.

    Raises:
        InputError: if the class cannot be found, is not a `base`, or refuses its arguments.
    """
    path = str(description.get("class_path", ""))
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"class {path!r} was not found ({error}); install the package that defines it.") from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise InputError(f"expected a subclass of {base.__name__}, got {path!r}.")
    try:
        return cls(*args, **description.get("init_args", {}))
    except TypeError as error:
        raise InputError(f"{path} does not take these arguments: {error}") from error

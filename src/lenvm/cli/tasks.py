"""The commands beside Lightning's: plain functions, whose signatures and docstrings are their options and help."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from jsonargparse import auto_cli

_TASKS: dict[str, str | dict[str, str]] = {
    "demo": "lenvm.demo.run:demo",
    "export": "lenvm.training.export:export",
    "evaluate": {
        "by_position": "lenvm.evaluation.by_position:by_position",
        "length_control": "lenvm.evaluation.length_control:length_control",
        "prompt_boundary": "lenvm.evaluation.prompt_boundary:prompt_boundary",
        "tradeoff": "lenvm.evaluation.tradeoff:tradeoff",
    },
    "generate": "lenvm.decoding.command:generate",
    "rollout": "lenvm.rollout.run:rollout",
    "playground": {"train": "lenvm.playground.train:train_policy"},
}


def run(command: str, args: list[str]) -> None:
    """Runs one command."""
    task = _TASKS[command]
    components: Any = _load(task) if isinstance(task, str) else {name: _load(home) for name, home in task.items()}
    auto_cli(components, args=args, as_positional=False, prog=f"lenvm {command}")


def _load(home: str) -> Callable[..., object]:
    module, _, name = home.partition(":")
    function: Callable[..., object] = getattr(import_module(module), name)
    return function

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from task_examples import EXAMPLES

from lenvm.tasks import AbstractTask


@pytest.fixture
def example(tmp_path: Path) -> Callable[[type[AbstractTask]], Any]:
    """A task of a class, on a small copy of its dataset in a folder of its own."""
    return lambda cls: EXAMPLES[cls](tmp_path / cls.__name__.lower())

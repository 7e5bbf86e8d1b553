"""What README tells people to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lenvm.cli.main import COMMANDS, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.S)
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.startswith("lenvm ")]


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_readme_has_the_options_it_is_given(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, command, *words = shlex.split(line)
    assert command in COMMANDS
    subcommand = [words[0]] if command in ("evaluate", "playground") else []
    with pytest.raises(SystemExit) as stop:
        main([command, *subcommand, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for word in words:
        if word.startswith("--"):
            assert f"{word.split('=')[0]} " in shown


def test_the_files_that_the_readme_names_exist() -> None:
    named = re.findall(r"(?:experiments|configs|docs)/[\w./-]+\.\w+", README)
    assert named
    assert all((ROOT / name).exists() for name in named)


def test_the_readme_stays_readable() -> None:
    assert len(README.splitlines()) <= 200
    assert {"make demo", "make test"} <= set(re.findall(r"^make \w+", README, flags=re.M))

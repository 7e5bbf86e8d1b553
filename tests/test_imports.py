"""The package is light to import, and its public names exist."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lenvm
from lenvm.cli.main import COMMANDS, main

HEAVY = ("torch", "transformers", "lightning", "datasets", "jsonargparse", "matplotlib", "sklearn", "vllm")


def loaded_modules(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n' + ' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("statement", ["import lenvm", "from lenvm.cli.main import main; main(['--help'])"])
def test_the_light_paths_load_nothing_heavy(statement: str) -> None:
    modules = loaded_modules(statement)
    assert "lenvm" in modules
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize("name", [n for n in lenvm.__all__ if n != "__version__"])
def test_a_public_name_is_what_it_says(name: str) -> None:
    assert getattr(lenvm, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LengthValueModle'"):
        lenvm.LengthValueModle  # noqa: B018


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_an_unknown_command_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.startswith("lenvm: error: unknown command 'trian'; choose from demo, fit")

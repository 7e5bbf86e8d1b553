"""Jobs that are kept in several files: the same completions, whatever is killed in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lenvm.data.rollout import Rollout, prompt_hash
from lenvm.decoding.generate import Completion
from lenvm.decoding.rules import Tilt
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.blocks import Block, split
from lenvm.evaluation.methods import AbstractMethod, BestOfMany, Guided, Plain, Task
from lenvm.evaluation.running import Job, run_jobs
from lenvm.evaluation.setup import Setup, load_setup
from lenvm.playground import POLICY_FOLDER

TEXTS = ["left out", *(f"What is {n}+4?" for n in range(5)), "What is 1+4?"]
"""The last one has been there before."""
PROMPTS = [Rollout(prompt=text, prompt_id=prompt_hash(text)) for text in TEXTS]
NUMBERS = range(1, len(TEXTS))


def setup_for(value_model: str | None = None) -> Setup:
    return load_setup(
        str(POLICY_FOLDER), value_model, SamplingSettings(temperature=4.0, top_k=8, max_tokens=16), 2, None, 8
    )


def run(folder: Path, setup: Setup, method: AbstractMethod, numbers: range = NUMBERS, **options: int) -> Block:
    return run_jobs([Job("a job", method, 8, numbers)], setup, PROMPTS, "equal", folder, **options)[0]


def assert_same(block: Block, other: Block) -> None:
    assert block.prompt.tolist() == other.prompt.tolist()
    assert block.sample.tolist() == other.sample.tolist()
    assert block.ids == other.ids
    assert block.text == other.text
    assert block.natural.tolist() == other.natural.tolist()
    assert block.nll == pytest.approx(other.nll, rel=1e-4)
    assert block.end_nll == pytest.approx(other.end_nll, rel=1e-3, abs=1e-4)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("method", ["plain", "a rule with a value for each prompt", "best of many"])
def test_many_files_hold_what_one_does(method: str, tmp_path: Path, value_model: str) -> None:
    chosen: AbstractMethod = Plain()
    if method.startswith("a rule"):
        chosen = Guided(rule=Tilt(beta=[-30.0, 0.0, 30.0, -3.0, 3.0, 0.5]), scorer="tree")
    elif method == "best of many":
        chosen = BestOfMany(attempts=2)
    setup = setup_for(value_model)
    whole = run(tmp_path / "one", setup, chosen)
    assert files(tmp_path / "one") == ["a_job.parquet"]
    parts = run(tmp_path / "many", setup, chosen, completions=4 * chosen.effort)
    assert files(tmp_path / "many") == [f"a_job/000{n}.parquet" for n in (1, 2, 3)]
    assert_same(parts, whole)
    assert whole.prompt.tolist() == np.repeat(NUMBERS, 2).tolist()
    # the question that is asked twice has four samples, not two of them twice
    again = [ids for prompt, ids in zip(parts.prompt, parts.ids, strict=True) if TEXTS[prompt] == TEXTS[-1]]
    assert len(again) == 4
    assert len(set(map(tuple, again))) > 2
    # what one file holds already is not written again
    assert_same(run(tmp_path / "one", setup, chosen, completions=4), whole)
    assert files(tmp_path / "one") == ["a_job.parquet"]


def test_a_kill_loses_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup, whole, calls = setup_for(), Plain.write, list[int]()

    def write(self: Plain, setup: Setup, task: Task) -> Iterator[Completion]:
        calls.append(len(task.prompts))
        for number, completion in enumerate(whole(self, setup, task)):
            if len(calls) == 3 and number == 1:
                raise KeyboardInterrupt
            yield completion

    monkeypatch.setattr(Plain, "write", write)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", setup, Plain(), completions=4)
    assert files(tmp_path / "killed") == ["a_job/0001.parquet", "a_job/0002.parquet"]
    capsys.readouterr()
    resumed = run(tmp_path / "killed", setup, Plain(), completions=4)
    # the question that is asked twice is with its first
    assert calls == [3, 2, 1, 1]
    assert "12/12" in capsys.readouterr().out
    unbroken = run(tmp_path / "unbroken", setup, Plain(), completions=4)
    assert_same(resumed, unbroken)
    assert resumed.nll.tolist() == unbroken.nll.tolist()
    assert len(calls) == 7
    assert_same(run(tmp_path / "killed", setup, Plain(), completions=4), unbroken)
    assert len(calls) == 7


def test_files_may_be_older_than_the_numbers_of_the_prompts(tmp_path: Path) -> None:
    setup = setup_for()
    before = run(tmp_path, setup, Plain(), completions=4)
    (tmp_path / "a_job" / "0002.parquet").unlink()
    job = Job("a job", Plain(), 8, range(3, 9))
    after = run_jobs([job], setup, [*PROMPTS[:2], *PROMPTS], "equal", tmp_path, completions=4)[0]
    assert_same(after._replace(prompt=after.prompt - 2), before)


def test_other_settings_stop_with_a_sentence(tmp_path: Path) -> None:
    setup = setup_for()
    run(tmp_path, setup, Plain(), completions=4)
    before = files(tmp_path)
    with pytest.raises(InputError, match=r"0001\.parquet was made with `prompts` 6 \(\w+\), but now it is 2 \(\w+\)"):
        run(tmp_path, setup, Plain(), range(1, 3), completions=4)
    with pytest.raises(InputError, match=r"0001\.parquet was made with `part` 1 of 3, but now it is 1 of 5"):
        run(tmp_path, setup, Plain(), completions=2)
    assert files(tmp_path) == before


def test_equal_prompts_are_in_one_group() -> None:
    assert split("abcadbe", 2) == [[0, 1, 3, 5], [2, 4], [6]]
    assert split("aaa", 1) == [[0, 1, 2]]

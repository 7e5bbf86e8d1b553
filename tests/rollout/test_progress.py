from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError
from lenvm.rollout import progress as module
from lenvm.rollout.engines import Failed
from lenvm.rollout.failures import FailureLog
from lenvm.rollout.progress import RolloutProgress, reading_prompts


def completion(prompt_id: str, tokens: int, reason: str = "stop") -> Rollout:
    return Rollout(prompt_id=prompt_id, completion_ids=[5] * tokens, finish_reason=reason)  # type: ignore[arg-type]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_the_line_has_prompts_speed_share_cut_and_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with RolloutProgress("Starting", 10, FailureLog(None, 5)) as progress:
        progress.skip()
        clock[0] += 1000  # an engine that starts slowly is not a slow engine
        progress.start()
        for name in "abc":
            progress.ask(name, 2)
        clock[0] += 60
        progress.finish(completion("a", 30))
        progress.finish(completion("a", 30, "length"))
        progress.finish(completion("b", 60))
    # 9 prompts of 2 are to be sampled, 3 completions took 60 s: 15 are left
    assert progress._facts() == "2/10 prompts, 2 tokens/s, 33.3% cut, 0:05:00 left"
    assert (progress.completions, progress.tokens, progress.cut, progress.present) == (3, 120, 1, 1)
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(",.*", "", line) for line in lines] == ["1/10 prompts"] * len(lines)


def test_a_finished_prompt_can_be_skipped_while_others_are_under_way(clock: list[float]) -> None:
    with RolloutProgress("Sampling", 3, FailureLog(None, 5)) as progress:
        progress.start()
        progress.ask("a", 4)
        clock[0] += 40
        progress.finish(completion("a", 7))
        progress.skip()
        clock[0] += 40
        progress.finish(completion("a", 7))
    assert progress._facts().startswith("1/3 prompts, ")


def test_failures_are_counted_and_too_many_stop(clock: list[float]) -> None:
    with RolloutProgress("Sampling", 3, FailureLog(None, 1)) as progress:
        progress.ask("a", 4)
        progress.fail(Failed("a", "too long"))
        with pytest.raises(
            InputError, match=r"2 prompt\(s\) failed, and `max_failures` is 1; the first was a: too long"
        ):
            progress.fail(Failed("b", "no"))


def test_a_server_that_tells_no_tokens_is_measured_in_completions(clock: list[float]) -> None:
    with RolloutProgress("Sampling", 2, FailureLog(None, 1)) as progress:
        progress.start()
        progress.ask("a", 1)
        clock[0] += 0.5
        progress.finish(Rollout(prompt="q", completion="a", prompt_id="a"))
    assert progress._facts().startswith("1/2 prompts, 2 completions/s, ")


def test_a_prompt_that_failed_is_dealt_with_and_counted() -> None:
    with RolloutProgress("Sampling", 2, FailureLog(None, 1)) as progress:
        progress.ask("a", 1)
        progress.fail(Failed("a", "too long"))
    assert progress._facts() == "1/2 prompts, 1 failed"


def test_nothing_is_drawn_into_a_file_while_prompts_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    with reading_prompts() as tick:
        for _ in range(2000):
            tick()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("reason", ["prompt 7f has 9 tokens; shorten it.", "has 9 tokens; shorten it"])
def test_a_reason_does_not_name_its_prompt_twice(reason: str, tmp_path: Path) -> None:
    with FailureLog(tmp_path / "failures.jsonl", 1) as failures:
        failures.add(Failed("7f", reason))
    assert failures.first == "7f: has 9 tokens; shorten it"
    assert json.loads((tmp_path / "failures.jsonl").read_text())["reason"] == "has 9 tokens; shorten it"

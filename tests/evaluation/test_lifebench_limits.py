from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.lifebench import lifebench
from lenvm.evaluation.methods import AskForLength, Plain
from lenvm.tasks import LengthRequirement, LIFEBench, Playground

TASK = LengthRequirement(task=Playground(), targets=(8, 16), constraints=("equal_to",), sentence=None)


@pytest.mark.parametrize(
    ("unit", "limit", "wanted"),
    [("tokens", 16, 32), ("tokens", 31, 32), ("words", 32, 48)],
)
def test_a_cut_completion_cannot_have_the_length_that_is_asked_for(
    unit: Any, limit: int, wanted: int, tmp_path: Path
) -> None:
    ratios = {"en": 1.5} if unit == "words" else None
    options: dict[str, Any] = {"methods": {"plain": Plain()}, "items": 2, "tokens_per_unit": ratios}
    options["task"] = replace(TASK, unit=unit)
    longest = wanted // 2
    sentence = (
        rf"up to {longest} tokens are asked for, so `sampling.max_tokens` must be at least {wanted}, got {limit}:"
    )
    with pytest.raises(InputError, match=sentence):
        lifebench(tmp_path, sampling=SamplingSettings(max_tokens=limit), **options)
    lifebench(tmp_path, sampling=SamplingSettings(max_tokens=wanted), **options)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["prompts"] == 4
    assert summary["training_prompts_known"] is True  # there is no value model


def test_the_default_limit_is_enough_for_the_default_targets() -> None:
    limit = inspect.signature(lifebench).parameters["sampling"].default.max_tokens
    assert limit >= 2 * max(LIFEBench().targets)


def test_items_have_to_fit_in_the_form_in_which_they_are_sent(tmp_path: Path) -> None:
    options: dict[str, Any] = {"task": TASK, "items": 2, "sampling": SamplingSettings(max_tokens=32)}
    asked = AskForLength(template="Write {n} tokens. " * 100)
    with pytest.raises(InputError, match="none of the 4 prompts leaves 20 of the context's 1024 tokens"):
        lifebench(tmp_path, methods={"plain": Plain(), "asked": asked}, **options)
    assert not list(tmp_path.iterdir())

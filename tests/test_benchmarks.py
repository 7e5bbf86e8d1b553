"""The benchmark runs from end to end and prints every number that it promises; how large they are is not tested."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from lenvm.backbones import PretrainedBackbone, SharedBackbone
from lenvm.heads import ActionValueHead
from lenvm.models import LengthValueModel
from lenvm.playground import POLICY_FOLDER
from lenvm.targets import DiscountedReturn

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
WAYS = {"tree", "action_value", "shared"}


@pytest.mark.slow
def test_the_decoding_benchmark_prints_its_ratios(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # untrained models where the trained ones would be: speed does not depend on what the weights are
    for name, backbone in (
        ("action", PretrainedBackbone(str(POLICY_FOLDER))),
        ("shared", SharedBackbone(str(POLICY_FOLDER))),
    ):
        head = ActionValueHead(backbone.hidden_size, backbone.vocab_size)
        model = LengthValueModel(backbone, head, DiscountedReturn(gamma=0.97))
        model.save_pretrained(tmp_path / name / "model", tokenizer)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    words = ["decoding.py", "--json", "--rows", "6", "--repeats", "1", "--models", str(tmp_path)]
    words += ["--stories", str(tmp_path / "none")]
    monkeypatch.setattr(sys, "argv", words)
    import_module("decoding").main()
    results = json.loads(capsys.readouterr().out)
    assert set(results["slowdown"]) == set(results["limit"]) == WAYS
    assert results["limit"]["shared"] == 1
    assert results["limit"]["tree"] > results["limit"]["action_value"] > 1
    assert min(results["slowdown"].values()) > 0
    assert {"plain", "tree", "action_value"} <= set(results["length_score_64"])
    assert results["tree_vs_reencode"] > 1
    assert results["sampling_vs_generate"] > 0
    assert results["sampling"]["identical"] is True
    assert 1 <= results["tokens_read_per_row"] <= 15

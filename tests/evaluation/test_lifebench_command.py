from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from lenvm.cli.main import main
from lenvm.data.prompt_set import PromptSet
from lenvm.data.tokenizer import load_tokenizer
from lenvm.decoding.generate import Completion
from lenvm.decoding.rules import AtLeast, AtMost, EqualTo
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.lifebench import lifebench
from lenvm.evaluation.methods import AbstractMethod, BestOfMany, ByConstraint, ForcedLength, Guided, Plain, Task
from lenvm.evaluation.prompts import load_prompts
from lenvm.evaluation.setup import Setup
from lenvm.metrics import text_length
from lenvm.models import LengthValueModel
from lenvm.playground import POLICY_FOLDER
from lenvm.tasks import LengthRequirement, LIFEBench, Playground

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"
METHODS: dict[str, AbstractMethod] = {
    "plain": Plain(),
    "rules": ByConstraint(
        equal=Guided(rule=EqualTo(n=1)), at_most=Guided(rule=AtMost(n=1)), at_least=Guided(rule=AtLeast(n=1))
    ),
    "forced": ForcedLength(),
}
QUIET = LengthRequirement(task=Playground(), targets=(8, 16), sentence=None)
SMALL: dict[str, Any] = {
    "task": QUIET,
    "items": 3,
    "num_samples": 2,
    "sampling": SamplingSettings(top_k=8, max_tokens=40),
}
ENGLISH = "Write about {n}.\n\n[Requirement] The piece must be {{word_count_type}} {{word_count}} words long."
CHINESE = "写{n}。\n\n[要求]字数必须{{word_count_type}} {{word_count}}字。"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, value_model: str) -> Path:
    output = tmp_path_factory.mktemp("lifebench") / "out"
    lifebench(output, methods=METHODS, value_model=value_model, **SMALL)
    return output


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Prompts that were completed, one entry per call of the generator."""
    calls: list[int] = []
    whole = Setup.stream

    def stream(self: Setup, prompts: list[Any], **options: Any) -> Iterator[Completion]:
        calls.append(len(prompts))
        return whole(self, prompts, **options)

    monkeypatch.setattr(Setup, "stream", stream)
    return calls


@pytest.fixture
def benchmark(tmp_path: Path) -> LIFEBench:
    """Ten items in English, four in Chinese, one of each far too long."""
    rows = [
        {"id": n, "category": ("qa", "create")[n % 2], "type": "T", "lang": lang, "task": text.format(n=f"{n}" * times)}
        for lang, text, count in (("en", ENGLISH, 10), ("cn", CHINESE, 4))
        for n, times in enumerate([*([1] * (count - 1)), 2000])
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return LIFEBench(source=str(path), targets=(8, 16))


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(output / "completions.parquet").to_pylist()
    return rows


def summary_of(output: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return summary


def test_everything_is_written_and_says_what_is_counted(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {f"length_score_by_{name}.{s}" for name in ("target", "group") for s in ("png", "svg")}
    files = {"completions.parquet", "summary.json", "table.md", "blocks", "tensorboard"} | figures
    assert {path.name for path in finished.iterdir()} == files
    assert all((finished / name).stat().st_size > 10_000 for name in figures if name.endswith("png"))
    # the prompts do not say what is asked for, so that plain completions are written once
    assert len(list((finished / "blocks").iterdir())) == 1 + 2 * 3 * 2
    table = (finished / "table.md").read_text()
    assert table.startswith("| method | Equal To deviation | Equal To score | At Most score | At Least score |\n")
    assert "This is not the word count of LIFEBench's public leaderboard" in table
    assert "not to be compared" in summary_of(finished)["note"]
    assert summary_of(finished)["training_prompts_known"] is False


def test_scores_are_the_papers_equations_by_hand(finished: Path) -> None:
    rows, methods = rows_of(finished), summary_of(finished)["methods"]
    assert len(rows) == 3 * 3 * 2 * 3 * 2
    for row in rows:
        assert row["length"] == len(row["completion_ids"])
        deviation = (row["length"] - row["target"]) / row["target"]
        if deviation < 0 and row["constraint"] != "at_most":
            score = 100 * math.exp(5 * deviation)
        elif deviation > 0 and row["constraint"] != "at_least":
            score = 100 * math.exp(-2 * deviation)
        else:
            score = 100.0
        assert row["length_deviation"] == pytest.approx(deviation)
        assert row["length_score"] == pytest.approx(score)
    assert {row["length_score"] for row in rows if row["method"] == "forced"} == {100.0}

    def mean(key: str, size: bool = False, **wanted: Any) -> float:
        found = [row[key] for row in rows if all(row[name] == value for name, value in wanted.items())]
        assert found
        return float(np.mean(np.abs(found) if size else found))

    for name in METHODS:
        for constraint in ("equal", "at_most", "at_least"):
            cell, key = methods[name][constraint], {"method": name, "constraint": constraint}
            assert cell["length_score"] == pytest.approx(mean("length_score", **key))
            assert cell["deviation"] == pytest.approx(mean("length_deviation", **key))
            assert cell["absolute_deviation"] == pytest.approx(mean("length_deviation", size=True, **key))
            low, high = cell["length_score_interval"]
            assert low <= cell["length_score"] <= high
            by_target = methods[name]["by_target"][constraint]
            assert list(by_target) == ["8", "16"]
            for target, part in by_target.items():
                assert part["length_score"] == pytest.approx(mean("length_score", target=int(target), **key))
                assert part["completions"] == 6
            by_category = methods[name]["by_category"][constraint]
            for domain, part in by_category.items():
                assert part["length_score"] == pytest.approx(mean("length_score", category=domain, **key))
            assert methods[name]["by_language"][constraint] == {}


def test_methods_are_compared_with_plain_and_plain_is_the_same_everywhere(finished: Path) -> None:
    rows, methods = rows_of(finished), summary_of(finished)["methods"]
    plain = [row for row in rows if row["method"] == "plain"]
    for constraint in ("equal", "at_most", "at_least"):
        assert methods["plain"][constraint]["nll_ratio"] == 1.0
        ratio = methods["forced"][constraint]["nll_per_token"] / methods["plain"][constraint]["nll_per_token"]
        assert methods["forced"][constraint]["nll_ratio"] == pytest.approx(ratio)
    written = defaultdict(list)
    for row in plain:
        written[row["constraint"], row["target"]].append((row["item"], row["sample"], row["completion_ids"]))
        assert (
            row["prompt_id"] == f"{row['item']} {row['constraint'].replace('equal', 'equal_to')} {row['target']} tokens"
        )
    assert len(written) == 6
    assert all(found == written["equal", 8] for found in written.values())


def test_a_method_by_constraint_is_the_method_of_that_constraint(
    tmp_path: Path, finished: Path, value_model: str
) -> None:
    alone: dict[str, AbstractMethod] = {"rules": Guided(rule=AtMost(n=1))}
    task = replace(QUIET, constraints=("at_most",))
    lifebench(tmp_path, methods=alone, value_model=value_model, **SMALL | {"task": task})
    ids = [row["completion_ids"] for row in rows_of(tmp_path)]
    whole = [row for row in rows_of(finished) if (row["method"], row["constraint"]) == ("rules", "at_most")]
    assert ids == [row["completion_ids"] for row in whole]
    assert set(summary_of(tmp_path)["methods"]["rules"]) == {"at_most", "by_target", "by_language", "by_category"}


def test_a_killed_evaluation_goes_on_where_it_stopped(
    finished: Path, tmp_path: Path, value_model: str, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    output, killed = tmp_path / "out", ForcedLength.write

    def write(self: ForcedLength, setup: Setup, task: Task) -> Iterator[Completion]:
        for i, completion in enumerate(killed(self, setup, task)):
            if (task.constraint, task.target) == ("at_most", 16) and i == 2:
                raise KeyboardInterrupt
            yield completion

    with monkeypatch.context() as patch:
        patch.setattr(ForcedLength, "write", write)
        with pytest.raises(KeyboardInterrupt):
            lifebench(output, methods=METHODS, value_model=value_model, **SMALL)
    assert not (output / "summary.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (output / "blocks").iterdir()}
    assert len(before) == 1 + 6 + 3
    counted.clear()
    lifebench(output, methods=METHODS, value_model=value_model, **SMALL)
    assert counted == [3, 3, 3]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert rows_of(output) == rows_of(finished)


def test_targets_are_added_to_what_is_there(benchmark: LIFEBench, tmp_path: Path, counted: list[int]) -> None:
    options: dict[str, Any] = {"methods": {"plain": Plain()}, "items": 3, "sampling": SMALL["sampling"]}
    lifebench(tmp_path / "grown", task=replace(benchmark, targets=(8,)), **options)
    lifebench(tmp_path / "grown", task=benchmark, **options)
    assert len(counted) == 6
    lifebench(tmp_path / "whole", task=benchmark, **options)
    assert rows_of(tmp_path / "grown") == rows_of(tmp_path / "whole")


def test_prompts_that_were_trained_on_are_known_by_the_id_before_a_length_was_asked_for(
    tmp_path: Path, value_model: str
) -> None:
    seen = load_prompts(Playground(), None, 3, 0).rollouts[1].prompt_id
    model = LengthValueModel.from_pretrained(value_model)
    model.training_prompts = PromptSet.of([seen, "another"]).to_text()
    model.save_pretrained(tmp_path / "model", load_tokenizer(str(POLICY_FOLDER)))
    own = Guided(rule=AtMost(n=1), value_model=str(tmp_path / "model"))
    chosen: dict[str, AbstractMethod] = {"rules": ByConstraint(equal=Plain(), at_most=own, at_least=Plain())}
    message = rf"was trained on 1 of the 3 prompts, for example prompt_id '{seen}'; .* insist with `--allow_overlap`"
    with pytest.raises(InputError, match=message):
        lifebench(tmp_path / "out", methods=chosen, value_model=value_model, **SMALL)
    assert not (tmp_path / "out").exists()
    small = SMALL | {"task": replace(QUIET, targets=(8,))}
    lifebench(tmp_path / "out", methods=chosen, value_model=value_model, allow_overlap=True, **small)
    assert (tmp_path / "out" / "summary.json").exists()


def test_items_are_the_same_everywhere_and_of_both_languages(
    benchmark: LIFEBench, tmp_path: Path, value_model: str, counted: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"task": benchmark, "value_model": value_model, "sampling": SMALL["sampling"]}
    lifebench(tmp_path / "out", methods={"plain": Plain(), "best": BestOfMany(attempts=2)}, items=4, **options)
    rows, summary = rows_of(tmp_path / "out"), summary_of(tmp_path / "out")
    assert counted == [4] * 12  # prompts differ here, so plain ones are written for each
    asked = {
        (row["constraint"], row["target"]): {r["item"] for r in rows if r["target"] == row["target"]} for row in rows
    }
    assert len(asked) == 6
    assert len({frozenset(items) for items in asked.values()}) == 1
    assert summary["items_by_language"] == {"en": 2, "cn": 2}
    assert (summary["items"], summary["prompts"], summary["too_long"]) == (4, 24, 2)
    assert set(summary["methods"]["plain"]["by_language"]["equal"]) == {"en", "cn"}
    assert set(summary["methods"]["plain"]["by_category"]["equal"]) <= {"qa", "create"}
    assert "2 left out, too long for the largest target" in capsys.readouterr().out.replace("\n", " ")
    # a larger number adds items to those of a smaller one
    lifebench(tmp_path / "more", methods={"plain": Plain()}, items=8, **options)
    assert {row["item"] for row in rows} < {row["item"] for row in rows_of(tmp_path / "more")}
    assert summary_of(tmp_path / "more")["items_by_language"] == {"en": 5, "cn": 3}


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_words_and_characters_are_counted_in_the_text(benchmark: LIFEBench, tmp_path: Path, unit: Any) -> None:
    task = replace(benchmark, unit=unit, targets=(8,), constraints=("equal_to",))
    options: dict[str, Any] = {"task": task, "items": 4, "sampling": SamplingSettings(top_k=8, max_tokens=60)}
    lifebench(tmp_path / "plain", methods={"plain": Plain()}, **options)
    rows, summary = rows_of(tmp_path / "plain"), summary_of(tmp_path / "plain")
    for row in rows:
        assert row["length"] == text_length(row["completion"], unit, row["language"])
        assert row["length_deviation"] == pytest.approx(row["length"] / row["target"] - 1)
    ratios = summary["tokens_per_unit"]
    english = [row for row in rows if row["language"] == "en"]
    tokens = sum(len(row["completion_ids"]) for row in english)
    assert ratios["en"] == pytest.approx(tokens / sum(row["length"] for row in english))
    # what steers tokens needs to know how many there are to a word
    methods: dict[str, AbstractMethod] = {"forced": ForcedLength()}
    with pytest.raises(InputError, match=rf"'forced' steers tokens, but lengths are asked for in {unit}; say how many"):
        lifebench(tmp_path / "forced", methods=methods, **options)
    lifebench(tmp_path / "forced", methods=methods, tokens_per_unit={"en": 1.5, "cn": 2.5}, **options)
    for row in rows_of(tmp_path / "forced"):
        ratio = {"en": 1.5, "cn": 2.5}[row["language"]]
        assert len(row["completion_ids"]) == round(row["target"] * ratio)
    assert summary_of(tmp_path / "forced")["tokens_per_unit_given"] == {"en": 1.5, "cn": 2.5}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data (../shared/data) is not on this machine")
def test_the_real_benchmark_goes_through(tmp_path: Path, value_model: str) -> None:
    task = LIFEBench(source=str(SHARED / "lifebench" / "data_no_summary.jsonl"), targets=(16,))
    lifebench(tmp_path, value_model=value_model, task=task, items=4, sampling=SamplingSettings(top_k=8, max_tokens=40))
    summary = summary_of(tmp_path)
    assert list(summary["methods"]) == ["plain", "published rules", "our rules"]
    assert summary["items_by_language"] == {"en": 2, "cn": 2}
    assert summary["too_long"] > 0
    assert len(rows_of(tmp_path)) == 3 * 3 * 4


def test_the_command_reads_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = {"class_path": "lenvm.evaluation.methods.Plain"}
    recipe = {
        "output": str(tmp_path / "out"),
        "items": 2,
        "sampling": {"top_k": 8, "max_tokens": 40},
        "task": {
            "class_path": "lenvm.tasks.LengthRequirement",
            "init_args": {"task": {"class_path": "lenvm.tasks.Playground"}, "targets": [8], "sentence": None},
        },
        "methods": {
            "plain": plain,
            "each": {
                "class_path": "lenvm.evaluation.methods.ByConstraint",
                "init_args": {"equal": {"class_path": "ForcedLength"}, "at_most": plain, "at_least": plain},
            },
        },
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["evaluate", "lifebench", "--config", str(tmp_path / "recipe.yaml")]) == 0
    printed = capsys.readouterr().out
    assert "Equal To" in printed
    assert "This is not the word count of LIFEBench's public leaderboard" in printed
    scores = summary_of(tmp_path / "out")["methods"]
    assert scores["each"]["equal"]["length_score"] == 100.0
    assert scores["each"]["at_least"]["length_score"] == scores["plain"]["at_least"]["length_score"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"methods": {}}, "give at least one method in `methods`"),
        ({"items": 0}, "`items` must be at least 1, got 0"),
        ({"tokens_per_unit": {"en": 0.0}}, "`tokens_per_unit` must be positive numbers by language"),
        (
            {"task": ["Tell me."]},
            r"asks for no length \(its metadata has no `constraint` and `target`\); give the task",
        ),
        ({"task": Playground()}, "Playground never ends and asks for no length; put LengthRequirement around it"),
        (
            {"task": replace(QUIET, targets=(8, 64))},
            r"up to 64 tokens are asked for, so `sampling.max_tokens` must be at least 128, got 40: a",
        ),
        ({"methods": None}, "a guided method needs a value model; give `--value_model`"),
        ({"methods": {"a!": Plain(), "A?": Plain()}}, "two methods are called 'a!'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        lifebench(tmp_path / "out", **{"methods": {"plain": Plain()}, **SMALL, **options})
    assert not (tmp_path / "out").exists()


def test_targets_without_room_and_too_many_items_stop(benchmark: LIFEBench, tmp_path: Path) -> None:
    options: dict[str, Any] = {"methods": {"plain": Plain()}, "sampling": SamplingSettings(max_tokens=4000)}
    with pytest.raises(InputError, match=r"20 items are wanted, but of 14 only 12 leave room for 20 tokens; ask for"):
        lifebench(tmp_path, task=benchmark, items=20, **options)
    with pytest.raises(InputError, match="none of the 42 prompts leaves 2500 of the context's 1024 tokens"):
        lifebench(tmp_path, task=replace(benchmark, targets=(2000,)), **options)

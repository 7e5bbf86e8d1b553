from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lenvm.cli.main import main
from lenvm.data.reading import find_files, read_rows
from lenvm.data.rollout import Rollout, parse_rollout
from lenvm.data.tokenizer import fingerprint, load_tokenizer
from lenvm.data.writing import shard_facts
from lenvm.errors import InputError
from lenvm.playground import POLICY_FOLDER
from lenvm.rollout import SamplingRequest, SamplingSettings
from lenvm.rollout.engines import AbstractEngine, Failed, Outcome, Policy, TransformersEngine
from lenvm.rollout.run import rollout
from lenvm.tasks import Playground

GENERATOR, SHORT = str(POLICY_FOLDER), SamplingSettings(max_tokens=12)
Key = tuple[str, int]


def read(path: Path) -> list[Rollout]:
    return [parse_rollout(row.data or {}) for row in read_rows(find_files([path]) or [])]


def keyed(path: Path) -> dict[Key, list[int]]:
    rows = read(path)
    found = {(row.prompt_id, (row.metadata or {})["sample"]): row.completion_ids or [] for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Runs the command on the playground policy with short completions; returns the folder."""

    def start(task: Any, **options: Any) -> Path:
        output = options.pop("output", tmp_path / "out")
        rollout(GENERATOR, output, task, **{"sampling": SHORT, "num_samples": 2, **options})
        return output

    return start


Run = Callable[..., Path]
Write = Callable[..., Path]


def test_every_prompt_gets_its_samples_and_keeps_what_is_known_of_it(
    run: Run, write_json_lines: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = [{"role": "user", "content": "Count from 1 to 3."}]
    asked: list[dict[str, Any]] = [
        {"prompt": chat, "prompt_id": "a", "domain": "instruction", "reference": "1,2,3"},
        {"prompt": "What is 1+1?", "completion": "is not taken over", "something": "else"},
        {"prompt": chat, "prompt_id": "a", "domain": "instruction"},
    ]
    rows = read(run(str(write_json_lines(asked)), num_samples=3))
    assert sorted((row.metadata or {})["sample"] for row in rows) == [0, 0, 1, 1, 2, 2]
    known = [row for row in rows if row.prompt_id == "a"]
    assert len(known) == 3
    assert all((row.prompt, row.domain, row.reference) == (chat, "instruction", "1,2,3") for row in known)
    assert all(1 <= len(row.completion_ids or []) <= 12 for row in rows)
    tokens = sum(len(r.completion_ids or []) for r in rows)
    assert f"Done. 6 completions of 2 prompts, {tokens} tokens" in capsys.readouterr().out


def test_texts_can_be_given_directly_and_asked_as_chat(run: Run) -> None:
    rows = read(run(["Spell the word cat.", "Spell the word cat."], prompt_format="chat"))
    assert len(rows) == 2
    assert {row.prompt for row in rows} == {"Spell the word cat."}
    # <|user|> ... <|assistant|>
    assert {((row.prompt_ids or [])[0], (row.prompt_ids or [])[-1]) for row in rows} == {(1, 2)}


def test_more_prompts_and_samples_are_added_to_what_is_there(run: Run, tmp_path: Path) -> None:
    few = keyed(run(Playground(), prompts=6))
    more = keyed(run(Playground(), prompts=9, num_samples=4))
    assert len(more) == 36
    assert few.items() <= more.items()
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 2
    at_once = keyed(run(Playground(), prompts=9, num_samples=4, output=tmp_path / "once"))
    assert at_once.keys() == more.keys()
    assert sum(at_once[key] == more[key] for key in more) >= 34  # batches differ, and with them float32's rounding


def test_parts_are_disjoint_and_excluded_prompts_are_left_out(
    run: Run, write_json_lines: Write, tmp_path: Path
) -> None:
    file = str(write_json_lines([{"prompt": f"Count to {i}."} for i in range(60)]))
    train, test = (keyed(run(file, part=part, output=tmp_path / part)) for part in ("train", "test"))
    assert not {p for p, _ in train} & {p for p, _ in test}
    assert len(train) + len(test) == 120
    rest = keyed(run(file, exclude=[tmp_path / "train"], output=tmp_path / "rest"))
    assert rest.keys() == test.keys()


def test_shards_say_how_they_were_sampled(run: Run) -> None:
    output = run(["Hello"], sampling=SamplingSettings(max_tokens=3, top_k=5, stop=("x",)), seed=4)
    facts = shard_facts(output / "rollouts-00000.parquet")
    expected = {
        "generator": GENERATOR,
        "tokenizer": fingerprint(load_tokenizer(GENERATOR)),
        "engine": "transformers",
        "sampling.temperature": 1.0,
        "sampling.top_k": 5,
        "sampling.max_tokens": 3,
        "sampling.stop": ["x"],
        "seed": 4,
    }
    assert expected.items() <= facts.items()
    assert facts["revision"].startswith("folder ")
    assert {"lenvm", "transformers", "torch"} <= facts["versions"].keys()
    assert facts["task"]["class_path"].endswith("Texts")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"sampling": SamplingSettings(max_tokens=12, temperature=0.5)},
            r"`sampling\.temperature` 1\.0, but now it is 0\.5",
        ),
        ({"prompt_format": "chat"}, '`prompt_format` "auto", but now it is "chat"'),
        ({"task": ["Bye"]}, "`task` .*Hello.*, but now it is .*Bye"),
        ({"num_samples": 1}, "`num_samples` 2, but now it is 1; fewer"),
    ],
)
def test_a_folder_takes_rows_of_one_way_of_sampling_only(run: Run, changed: dict[str, Any], message: str) -> None:
    before = keyed(run(["Hello"]))
    with pytest.raises(InputError, match=message) as caught:
        run(**{"task": ["Hello"], **changed})
    assert "choose another folder with `--output`" in str(caught.value)
    assert keyed(run(["Hello"])) == before


def test_what_is_excluded_belongs_to_the_settings(run: Run, tmp_path: Path) -> None:
    others, texts = tmp_path / "others", [f"Count to {i}." for i in range(12)]
    run(texts[:4], output=others)
    before = keyed(run(texts, prompts=5))
    with pytest.raises(InputError, match=r'`exclude` null, but now it is \{"paths": .*others.*, "prompts": 4\}'):
        run(texts, prompts=5, exclude=[others])
    assert keyed(tmp_path / "out") == before
    less = keyed(run(texts, prompts=5, exclude=[others], output=tmp_path / "less"))
    assert not {p for p, _ in less} & {p for p, _ in keyed(others)}


def test_a_task_with_too_few_prompts_says_so_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    task = Playground(domains=("instruction",))
    with pytest.raises(InputError, match="the task has only 140 different prompts of the part `test`; ask for fewer"):
        run(task, part="test", prompts=150)
    assert not (tmp_path / "out").exists()


def test_another_generator_in_the_same_place_is_noticed(run: Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "policy"
    shutil.copytree(POLICY_FOLDER, copy)
    rollout(str(copy), tmp_path / "out", ["Hello"], sampling=SHORT)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match=r'`revision` "folder .*", but now it is "folder .*"'):
        rollout(str(copy), tmp_path / "out", ["Hello"], sampling=SHORT)


def test_bad_prompts_are_noted_and_the_others_sampled(
    run: Run, tmp_path: Path, write_json_lines: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    bad: list[Any] = [
        {"prompt": "fine"},
        "{",
        {"prompt": ""},
        {"prompt": "x " * 2000, "prompt_id": "long"},
        r'{"prompt": "\ud800", "prompt_id": "half"}',
        {"prompt": "twice", "prompt_id": "t"},
        {"prompt": "not the same", "prompt_id": "t"},
        {"prompt": "pictured", "images": ["a.png"], "prompt_id": "pic"},
        {"prompt": "also fine"},
        r'{"prompt": "answered by half a letter", "reference": "\ud800", "prompt_id": "half an answer"}',
    ]
    output = run(str(write_json_lines(bad)))
    assert len(read(output)) == 6
    failures = [json.loads(line) for line in (output / "__run__" / "failures.jsonl").read_text().splitlines()]
    reasons = {failure["prompt_id"]: failure["reason"] for failure in failures}
    assert len(reasons) == 7
    assert "fills the context of 1024" in reasons["long"]
    assert "not valid Unicode" in reasons["half"]
    assert "not valid Unicode" in reasons["half an answer"]
    assert "images, which this engine does not read" in reasons["pic"]
    assert any("'t' was given to another prompt" in reason for reason in reasons.values())
    assert any("rows.jsonl:2" in place for place in reasons)
    assert "7 prompt(s) failed, for example" in capsys.readouterr().out


def test_metadata_that_is_no_json_fails_alone(run: Run, tmp_path: Path) -> None:
    times = [datetime(2026, 1, 1), None]
    rows = [{"prompt": f"Count to {i}.", "metadata": {"when": when}} for i, when in enumerate(times)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    output = run(str(tmp_path / "rows.parquet"))
    assert {row.prompt for row in read(output)} == {"Count to 1."}
    failures = (output / "__run__" / "failures.jsonl").read_text()
    assert "has metadata that is not JSON (Object of type datetime" in failures


def test_too_many_failures_end_the_run_and_what_was_finished_is_kept(
    run: Run, write_json_lines: Write, tmp_path: Path
) -> None:
    lines: list[Any] = [{"prompt": f"Count to {i}."} for i in range(600)]
    file = str(write_json_lines([*lines, "{", "{", *lines[:1]]))
    engine = TransformersEngine(batch_size=8)
    with pytest.raises(
        InputError, match=r"2 prompt\(s\) failed, and `max_failures` is 1; the first was .*rows.jsonl:601"
    ):
        run(file, max_failures=1, engine=engine, sampling=SamplingSettings(max_tokens=2), num_samples=1)
    assert len(list((tmp_path / "out" / "__run__").glob("journal.jsonl"))) == 1
    run(file, max_failures=2, engine=engine, sampling=SamplingSettings(max_tokens=2), num_samples=1)
    assert len(keyed(tmp_path / "out")) == 600


def test_nothing_but_bad_prompts_is_an_error(run: Run, write_json_lines: Write) -> None:
    with pytest.raises(InputError, match=r"nothing was sampled; the first prompt failed: long: .* fills the context"):
        run(str(write_json_lines([{"prompt": "x " * 2000, "prompt_id": "long"}])))


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(
    run: Run, write_json_lines: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_json_lines([{"prompt": f"Count to {i}."} for i in range(50)] + ["{"])  # type: ignore[list-item]
    run(str(file), dry_run=True, num_samples=3)
    said = capsys.readouterr().out
    assert "1 prompt(s) cannot be used; the first: " in said
    assert "Dry run: 50 prompts of " in said
    assert "ask for 150 completions" in said
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True, kw_only=True)
class Seeing(AbstractEngine):
    """Notes which images it is given."""

    seen: tuple[list[str], ...] = ()

    def sample(self, policy: Policy, requests: Iterator[SamplingRequest]) -> Generator[Outcome, None, None]:
        for request in requests:
            assert request.prompt_ids is None
            for sample in request.samples:
                yield request.completed(sample, "a picture", None, "stop")

    @property
    def reads_images(self) -> bool:
        return True

    def described(self) -> dict[str, Any]:
        return {"engine": "seeing"}


def test_an_image_that_is_missing_or_no_image_fails_alone(run: Run, tmp_path: Path, write_json_lines: Write) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    (tmp_path / "text.png").write_text("no image")
    rows = [
        {"prompt": f"What is in {name}?", "prompt_id": name, "images": [str(tmp_path / f"{name}.png")]}
        for name in ("good", "torn", "text", "missing")
    ]
    output = run(str(write_json_lines(rows)), engine=Seeing())
    (first, second) = read(output)
    assert first.prompt_id == second.prompt_id == "good"
    assert (output / (first.images or [""])[0]).resolve() == tmp_path / "good.png"
    text = (output / "__run__" / "failures.jsonl").read_text()
    assert text.count("is not an image") == 2
    assert f"{tmp_path / 'missing.png'} does not exist" in text


@dataclass(frozen=True, kw_only=True)
class Failing(Seeing):
    """Fails at every prompt, and notes when it is shut down."""

    ended: list[str]

    def sample(self, policy: Policy, requests: Iterator[SamplingRequest]) -> Generator[Outcome, None, None]:
        try:
            for request in requests:
                yield Failed(request.rollout.prompt_id, "is bad")
        finally:
            self.ended.append("shut down")


def test_an_engine_is_shut_down_whatever_happens(run: Run) -> None:
    engine = Failing(ended=[])
    with pytest.raises(InputError, match=r"1 prompt\(s\) failed") as caught:
        run(["a", "b"], engine=engine, max_failures=0)
    assert caught.traceback  # which keeps everything alive that nobody closes
    assert engine.ended == ["shut down"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "`num_samples` must be at least 1, got 0"),
        ({"rows_per_shard": 0}, "`rows_per_shard` must be at least 1, got 0"),
        ({"max_failures": -1}, "`max_failures` must be 0 or more, got -1"),
        (
            {"task": "no_such_file.jsonl"},
            "`task` must be a file of prompts that exists, or one of .*GSM8K.*; got 'no_such",
        ),
        ({"task": [""]}, "must be prompts that are not empty, got '' in place 1"),
        ({"task": Playground()}, "this task never ends; say how many prompts are wanted"),
        ({"domain_mix": "math"}, "`domain_mix` must look like"),
        ({"exclude": [Path("no/such")]}, "no/such does not exist; `exclude` takes folders"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    run: Run, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(**{"task": ["x"], **options})
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_generator_without_an_end_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not load a tokenizer from 'no/such-model'"):
        rollout("no/such-model", tmp_path / "out", ["x"])


def test_the_command_takes_tasks_engines_and_dashes(
    tmp_path: Path, write_json_lines: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["rollout", "--generator", GENERATOR, "--sampling.max_tokens", "4", "--num-samples", "1"]
    mixed = ["--task", "Playground", "--prompts", "9", "--domain-mix", "math=1,code=2", "--seed", "3"]
    engine = ["--engine", "TransformersEngine", "--engine.batch_size", "4"]
    assert main([*common, *mixed, *engine, "--output", str(tmp_path / "mixed")]) == 0
    domains = [row.domain for row in read(tmp_path / "mixed")]
    assert (domains.count("math"), domains.count("code")) == (3, 6)
    file = write_json_lines([{"question": "What is 1+1?"}])
    table = ["--task", "Table", "--task.source", str(file), "--task.columns", "{prompt: question}"]
    assert main([*common, *table, "--output", str(tmp_path / "table")]) == 0
    assert main([*common, "--task", str(file), "--output", str(tmp_path / "no")]) == 2
    assert "prompt" in capsys.readouterr().err
    assert main([*common, "--task", '["Hello", "Bye"]', "--output", str(tmp_path / "texts")]) == 0
    assert len(read(tmp_path / "texts")) == 2


def test_a_batch_that_is_too_large_for_the_device_is_written_in_smaller_ones(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from lenvm.rollout.engines import transformers as engine

    whole, sizes = keyed(run(Playground(), prompts=8, output=tmp_path / "whole")), []

    def small(model: Any, prompts: Any, rows: Any, *args: Any, **options: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 5:
            raise torch.OutOfMemoryError
        return decode(model, prompts, rows, *args, **options)

    decode = engine.decode
    monkeypatch.setattr(engine, "decode", small)
    assert keyed(run(Playground(), prompts=8)).keys() == whole.keys()
    assert sizes == [16, 8, 4, 4, 8, 4, 4]


def test_a_batch_stays_within_its_tokens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from lenvm.rollout.engines import transformers as engine

    decode, most = engine.decode, []

    def watched(model: Any, prompts: Any, rows: Any, *args: Any, **options: Any) -> Any:
        most.append(len(rows) * (max(map(len, prompts)) + max(row.room for row in rows)))
        return decode(model, prompts, rows, *args, **options)

    monkeypatch.setattr(engine, "decode", watched)
    run(Playground(), prompts=12, engine=replace(TransformersEngine(), batch_tokens=150))
    assert len(most) > 4
    assert max(most) <= 150

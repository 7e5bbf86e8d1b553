from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError

Import = Callable[..., list[Rollout]]
Write = Callable[..., Path]
Row = dict[str, Any]


def asked(custom_id: str, text: str = "What is 1+1?", **body: Any) -> Row:
    messages = [{"role": "user", "content": text}]
    body = {"model": "m", "max_tokens": 9, "messages": messages, **body}
    body = {name: value for name, value in body.items() if value is not None}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def choice(text: str | None = "It is 2.", index: int = 0, finish_reason: Any = "stop", **message: Any) -> Row:
    message = {"role": "assistant", "content": text, **message}
    return {"index": index, "message": message, "finish_reason": finish_reason}


def answered(custom_id: Any, *choices: Any, usage: Any = None, **changes: Any) -> Row:
    usage = {"prompt_tokens": 8, "completion_tokens": 5} if usage is None else usage
    body = {"id": "c", "object": "chat.completion", "model": "m-1", "choices": list(choices), "usage": usage}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": custom_id, "response": response, "error": None, **changes}


@pytest.fixture
def batch(write_json_lines: Write, run_import: Import) -> Import:
    def run(requests: list[Any], answers: list[Any], **options: Any) -> list[Rollout]:
        sent = write_json_lines(requests, "input.jsonl")
        return run_import(write_json_lines(answers, "output.jsonl"), batch_input=sent, **options)

    return run


def test_answers_meet_their_prompts_in_any_order(batch: Import, capsys: pytest.CaptureFixture[str]) -> None:
    rows = batch(
        [asked("a", "What is 1+1?", temperature=0.5), asked("b", "What is 2+2?")],
        [answered("b", choice("It is", finish_reason="length")), answered("a", choice())],
    )
    assert [r.prompt for r in rows] == [[{"role": "user", "content": f"What is {q}?"}] for q in ("2+2", "1+1")]
    assert [(r.completion, r.finish_reason) for r in rows] == [("It is", "length"), ("It is 2.", "stop")]
    assert rows[1].metadata == {
        "custom_id": "a",
        "model": "m-1",
        "request": {"model": "m", "max_tokens": 9, "temperature": 0.5},
        "completion_tokens": 5,
        "choice": 0,
    }
    assert "is read as `openai_batch`: the output of an OpenAI batch, with the prompts of " in capsys.readouterr().out


def test_every_choice_is_a_completion_of_one_prompt(batch: Import) -> None:
    rows = batch([asked("a", n=3)], [answered("a", *(choice(f"It is {i}.", i) for i in range(3)))])
    assert [r.completion for r in rows] == ["It is 0.", "It is 1.", "It is 2."]
    assert len({r.prompt_id for r in rows}) == 1
    assert [(r.metadata or {})["choice"] for r in rows] == [0, 1, 2]
    # the interface sums the tokens of all choices
    assert "completion_tokens" not in (rows[0].metadata or {})
    assert (rows[0].metadata or {})["completion_tokens_of_all_choices"] == 5


def test_text_completions_may_have_several_prompts(batch: Import) -> None:
    choices = [{"index": i, "text": f" {i}", "finish_reason": "stop", "logprobs": None} for i in range(4)]
    requests = [asked("a", messages=None, prompt=["1+1=", "2+2="], n=2), asked("b", messages=None, prompt="3+3=")]
    rows = batch(requests, [answered("a", *choices), answered("b", choices[0])])
    assert [(r.prompt, r.completion) for r in rows] == [
        ("1+1=", " 0"),
        ("1+1=", " 1"),
        ("2+2=", " 2"),
        ("2+2=", " 3"),
        ("3+3=", " 0"),
    ]


def test_the_input_may_be_packed(write_json_lines: Write, run_import: Import, tmp_path: Path) -> None:
    packed = tmp_path / "input.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(asked("a")).encode()))
    rows = run_import(write_json_lines([answered("a", choice())]), format="openai_batch", batch_input=packed)
    assert [r.completion for r in rows] == ["It is 2."]


def failed(custom_id: str, code: str) -> Row:
    return answered(custom_id, response=None, error={"code": code, "message": "It expired."})


REFUSED = {"status_code": 400, "body": {"error": {"message": "too long", "type": "invalid_request_error"}}}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{damaged", "not valid JSON"),
        (failed("a", "batch_expired"), r"the request failed with `batch_expired` \('It expired.'\)"),
        (answered("a", response=REFUSED), r"the request failed with `invalid_request_error` \('too long'\)"),
        (answered("a", response={"status_code": 500, "body": None}), r"the request failed with `status 500`"),
        (answered("a", response=None), "no `response` and no `error`; the file must be a batch's output"),
        (asked("a"), "no `response` and no `error`; the file must be a batch's output"),
        (answered("a", response="x"), "`response` must be an object, got 'x'"),
        (answered("a", response={"status_code": 200, "body": []}), r"`response.body` must be an object, got \[\]"),
        (answered("z", choice()), r"no request of the batch's input has this custom_id \('z'\)"),
        (answered(5, choice()), "`custom_id` must be a text, got 5"),
        (answered("a"), r"`choices` must be a list of completions, got \[\]"),
        (answered("a", "x"), r"`choices` must be a list of completions, got \['x'\]"),
        (answered("a", choice(finish_reason="content_filter")), r"finish_reason `content_filter`.* \(choice 0\)"),
        (answered("a", choice(finish_reason="tool_calls")), "finish_reason `tool_calls`"),
        (answered("a", choice(finish_reason=None)), "finish_reason `None`"),
        (answered("a", choice(None)), "no text in the choice, got None"),
        (answered("a", choice(None, refusal="I won't.")), "the model refused"),
        (answered("a", choice(tool_calls=[{"id": "t"}])), "the message calls tools"),
        (answered("a", choice(reasoning_content="Hm.")), "reasoning outside the text"),
        (
            answered("a", choice(), usage={"completion_tokens_details": {"reasoning_tokens": 4}}),
            "reasoning outside the text",
        ),
        (answered("a", {"index": 0, "message": "x", "finish_reason": "stop"}), "`message` must be an object"),
        (answered("a", choice("", finish_reason="length")), "empty `completion` that was cut"),
        (answered("no prompt", choice()), "its request needs `messages` or a text `prompt`, got None"),
        (answered("ids", choice()), r"its request needs `messages` or a text `prompt`, got \[1, 2\]"),
        (answered("two", choice(index=2)), "no prompt for the choice among the 2 of its request"),
        (answered("wrong", choice()), "`prompt` must be a text or a list of messages, got 5"),
        (answered("echo", choice()), "the request has `echo`"),
    ],
)
def test_a_bad_row_is_named_or_skipped(batch: Import, tmp_path: Path, bad: Any, reason: str) -> None:
    requests = [
        asked("a"),
        asked("no prompt", messages=None),
        asked("ids", messages=None, prompt=[1, 2]),
        asked("two", messages=None, prompt=["1", "2"]),
        asked("wrong", messages=5),
        asked("echo", echo=True),
    ]
    answers = [answered("a", choice()), bad]
    with pytest.raises(InputError, match=rf"output\.jsonl:2: .*{reason}"):
        batch(requests, answers)
    assert not (tmp_path / "out").exists()
    assert len(batch(requests, answers, on_bad_row="skip")) == 1


def test_skipped_rows_are_counted_by_reason_and_a_bad_choice_leaves_its_siblings(
    batch: Import, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = [asked(f"{i}") for i in range(9)]
    answers = [
        answered("0", choice(), choice(finish_reason="content_filter"), choice("It is 3.")),
        *(failed(f"{i}", "batch_expired") for i in (1, 2)),
        failed("3", "server_error"),
        *(answered(f"unknown {i}", choice()) for i in range(4)),
    ]
    rows = batch(requests, answers, on_bad_row="skip")
    assert [r.completion for r in rows] == ["It is 2.", "It is 3."]
    shown = capsys.readouterr().out
    assert "8 bad rows were skipped; the first: " in shown
    assert "output.jsonl:1: finish_reason `content_filter`" in shown
    assert "4 x no request of the batch's input has this custom_id\n" in shown
    assert "2 x the request failed with `batch_expired`\n" in shown
    assert "1 x the request failed with `server_error`\n" in shown


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{damaged", "not valid JSON"),
        ({"custom_id": "x"}, "a request of the batch's input needs a `body`, got None"),
        ({"custom_id": 5, "body": {}}, "`custom_id` must be a text, got 5"),
        (answered("a", choice()), "a request of the batch's input needs a `body`"),
    ],
)
def test_a_bad_request_is_named_or_skipped(batch: Import, tmp_path: Path, bad: Any, reason: str) -> None:
    with pytest.raises(InputError, match=rf"input\.jsonl:1: .*{reason}"):
        batch([bad, asked("a")], [answered("a", choice())])
    assert not (tmp_path / "out").exists()
    assert len(batch([bad, asked("a")], [answered("a", choice())], on_bad_row="skip")) == 1


def test_a_custom_id_that_stands_twice_is_refused(batch: Import) -> None:
    with pytest.raises(InputError, match=r'input\.jsonl has several requests with the custom_id "a"'):
        batch([asked("a"), asked("b"), asked("a")], [answered("a", choice())])


def test_the_input_is_asked_for(write_json_lines: Write, run_import: Import, tmp_path: Path) -> None:
    path = write_json_lines([answered("a", choice())])
    for name in ("auto", "openai_batch"):
        with pytest.raises(InputError, match=r"does not hold the prompts; give the file .* with `--batch_input`"):
            run_import(path, format=name)
    with pytest.raises(InputError, match=r"nowhere\.jsonl does not exist; check the path"):
        run_import(path, batch_input=tmp_path / "nowhere.jsonl")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_sentence(batch: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(*args: Any, **options: Any) -> sqlite3.Connection:
        table = connect(*args, **options)
        table.execute("PRAGMA max_page_count = 3")
        return table

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(InputError, match=r"could not be kept in a temporary file .*full.*; free some space, or name"):
        batch([asked("a", "Hi " * 99999)], [answered("a", choice())])

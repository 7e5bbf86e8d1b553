from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from task_examples import Rows, conversation, write_lines, write_parquet

from lenvm.data.rollout import prompt_hash
from lenvm.errors import InputError
from lenvm.tasks import GSM8K, MATH500, DeepMath, WildChat
from lenvm.tasks.wildchat import has_other_letters

MATH = "Please reason step by step, and put your final answer within \\boxed{}.\n\n"
QUESTION = "Is {x} in $\\{1, 2\\}$? {question}"
ROWS: Rows = [{"question": QUESTION, "final_answer": "\\{1\\}"}, {"question": "2?", "final_answer": "2"}]


def asked(task: Any, part: Any = "all") -> list[Any]:
    return [row.rollout for row in task.prompts(part, 0)]


def problems(task: Any, part: Any = "all") -> list[Any]:
    return [row.problem for row in task.prompts(part, 0)]


def test_a_question_keeps_its_braces_and_is_a_message_with_an_id_of_its_text(tmp_path: Path) -> None:
    first, second = asked(DeepMath(source=str(write_lines(tmp_path / "a.jsonl", ROWS))))
    assert first.prompt == [{"role": "user", "content": MATH + QUESTION}]
    assert first.prompt_id == prompt_hash(first.prompt)
    assert (first.reference, first.domain, second.reference) == ("\\{1\\}", "math", "2")


def test_template_and_domain_can_be_chosen(tmp_path: Path) -> None:
    source = str(write_lines(tmp_path / "a.jsonl", ROWS))
    (first, _) = asked(DeepMath(source=source, template="{question} {boxed}", domain="deep"))
    assert first.prompt[0]["content"] == QUESTION + " {boxed}"
    assert first.domain == "deep"
    with pytest.raises(InputError, match=r"`template` must contain \{question\} where the question goes, got 'Solve.'"):
        DeepMath(template="Solve.")


def test_every_format_gives_the_same_prompts(tmp_path: Path) -> None:
    rows = [{"question": f"{i}, {i}?", "final_answer": f"a{i}"} for i in range(9)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_lines(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.json").write_text(lines)
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    write_parquet(tmp_path / "e.parquet", rows)
    (tmp_path / "f.csv").write_text("question,final_answer\n" + "".join(f'"{i}, {i}?",a{i}\n' for i in range(9)))
    write_lines(tmp_path / "folder" / "data" / "train-00000-of-00001.jsonl", rows)
    expected = asked(DeepMath(source=str(tmp_path / "a.jsonl")))
    assert len(expected) == 9
    for other in ("b.json", "c.json", "d.jsonl.gz", "e.parquet", "f.csv", "folder"):
        assert asked(DeepMath(source=str(tmp_path / other))) == expected


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"question": "", "final_answer": "1"}, "empty `question`"),
        ({"question": " \n", "final_answer": "1"}, "empty `question`"),
        ({"question": None, "final_answer": "1"}, "empty `question`"),
        ({"question": 7, "final_answer": "1"}, "`question` must be a text, got int"),
        ({"question": "x", "final_answer": None}, "empty `final_answer`"),
        ({"final_answer": "1"}, "empty `question`"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_others_are_given(
    tmp_path: Path, row: dict[str, Any], problem: str
) -> None:
    source = write_lines(tmp_path / "a.jsonl", [ROWS[0], row, ROWS[1]])
    first, bad, last = DeepMath(source=str(source)).prompts("all", 0)
    assert first.rollout is not None
    assert last.rollout is not None
    assert (bad.place, bad.rollout, bad.problem) == (f"{source}, train row 1", None, problem)


def test_gsm8k_takes_the_number_behind_the_mark_without_commas(tmp_path: Path) -> None:
    answers = ["1+1 = #### 2\n#### 1,234", "####-5", "#### $70.50", "no mark", "####", None]
    rows: Rows = [{"question": f"{i}?", "answer": answer} for i, answer in enumerate(answers)]
    write_lines(tmp_path / "test.jsonl", rows)
    found = list(GSM8K(source=str(tmp_path / "test.jsonl")).prompts("test", 0))
    assert [row.rollout.reference for row in found[:3] if row.rollout] == ["1234", "-5", "$70.50"]
    assert [row.problem for row in found[3:4]] == ["`answer` does not end in `#### N`"]
    assert all(row.problem for row in found[3:])


def test_a_single_file_is_the_split_that_its_name_says(example: Callable[..., Any]) -> None:
    whole = example(GSM8K)
    folder = Path(whole.source)
    test = GSM8K(source=str(folder / "test.jsonl"))
    assert asked(test, "test") == asked(test, "all") == asked(whole, "test")
    with pytest.raises(InputError, match=r"test\.jsonl is 'test' by its name, and 'train' is wanted"):
        asked(test, "train")
    (folder / "test.jsonl").rename(folder / "rows.jsonl")
    with pytest.raises(InputError, match=r"the name of .*rows\.jsonl does not say which of train, test it is"):
        asked(GSM8K(source=str(folder / "rows.jsonl")), "test")


def test_a_benchmark_has_no_training_part(example: Callable[..., Any]) -> None:
    assert len(asked(example(MATH500), "test")) == 9
    with pytest.raises(InputError, match="MATH500 has no part `train`: it has `test`; choose that, or `all`"):
        asked(MATH500(), "train")


def test_wildchat_keeps_first_messages_in_the_wanted_languages_and_letters(tmp_path: Path) -> None:
    rows = [
        conversation("Hi, déjà vu?"),
        conversation("你好，λ = 2", "Chinese"),
        conversation("Привет", "Russian"),
        conversation("Translate Привет"),
        conversation("Hallo", "German"),
        conversation(" "),
        conversation("I am a bot", role="assistant"),
        {**conversation(""), "conversation": []},
    ]
    source = str(write_lines(tmp_path / "train.jsonl", rows))
    found = list(WildChat(source=source).prompts("all", 0))
    texts = [row.rollout.prompt[0]["content"] for row in found if row.rollout]
    assert texts == [f"Please follow the instructions below.\n\n{text}" for text in ("Hi, déjà vu?", "你好，λ = 2")]
    assert [row.problem for row in found if row.problem] == [
        "empty `content`",
        "`conversation` does not begin with the user",
        "empty `conversation`",
    ]
    wide = WildChat(source=source, languages=("German", "Russian"), any_letters=True, template="{question}")
    assert [rollout.prompt[0]["content"] for rollout in asked(wide)] == ["Привет", "Hallo"]


@pytest.mark.parametrize("text", ["Ünïcode Łódź", "中文 㐀 𠀀", "α + Ω = ϵϑϕϖς", "x² ½ 7 ① _ é", "🙂 → ∑ ...", ""])
def test_letters_of_english_chinese_and_formulas_are_kept(text: str) -> None:
    assert not has_other_letters(text)


@pytest.mark.parametrize("text", ["ж", "かな", "한", "ά", "א", "ع", "ϰ", "µ", "ª", "Ⴀ"])
def test_other_letters_are_seen(text: str) -> None:
    assert has_other_letters(f"english {text} and")


@pytest.mark.parametrize(
    ("task", "name", "config", "split", "columns"),
    [
        (DeepMath(), "zwhe99/DeepMath-103K", None, "train", ["question", "final_answer"]),
        (GSM8K(revision="abc"), "openai/gsm8k", "main", "train", ["question", "answer"]),
        (MATH500(), "HuggingFaceH4/MATH-500", None, "test", ["problem", "answer"]),
        (WildChat(), "allenai/WildChat", None, "train", ["conversation", "language"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_name_is_loaded_from_the_hub_in_its_configuration_and_only_with_its_columns(
    monkeypatch: pytest.MonkeyPatch, task: Any, name: str, config: str | None, split: str, columns: list[str]
) -> None:
    calls = []

    def load_dataset(path: str, **options: Any) -> Any:
        calls.append((path, options))
        return datasets.Dataset.from_list([dict.fromkeys([*columns, "solution"], "#### 1")])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    next(task.prompts("all", 0), None)
    wanted = {"name": config, "split": split, "revision": task.revision, "columns": columns}
    assert calls == [(name, wanted)]

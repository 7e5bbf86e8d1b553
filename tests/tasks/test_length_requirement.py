from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError
from lenvm.evaluation.prompts import load_prompts
from lenvm.tasks import LengthRequirement, LIFEBench, MathVista, Playground, Texts


def asked(task: LengthRequirement, count: int = 100) -> list[Rollout]:
    return [row.rollout for row in islice(task.prompts("all", 0), count) if row.rollout]


def test_every_constraint_and_target_is_asked_for_in_words() -> None:
    task = LengthRequirement(task=Texts(texts=["Hi.", "Ho."]), targets=(16, 32), constraints=("equal_to", "at_most"))
    first, second = (row.rollout for row in Texts(texts=["Hi.", "Ho."]).prompts("all", 0))
    rollouts = asked(task)
    assert [rollout.prompt for rollout in rollouts[:5]] == [
        "Hi.\n\nYour answer must be equal to 16 tokens.",
        "Hi.\n\nYour answer must be equal to 32 tokens.",
        "Hi.\n\nYour answer must be at most 16 tokens.",
        "Hi.\n\nYour answer must be at most 32 tokens.",
        "Ho.\n\nYour answer must be equal to 16 tokens.",
    ]
    assert first
    assert second
    assert [(rollout.metadata or {})["item"] for rollout in rollouts] == [first.prompt_id] * 4 + [second.prompt_id] * 4
    assert rollouts[2].metadata == {"constraint": "at_most", "target": 16, "unit": "tokens", "item": first.prompt_id}
    assert len({rollout.prompt_id for rollout in rollouts}) == 8


@pytest.mark.parametrize("sentence", ["", None])
def test_the_wording_can_be_left_out_and_the_ids_still_differ(sentence: str | None) -> None:
    task = LengthRequirement(task=Texts(texts=["Hi."]), targets=(1, 2, 3), unit="words", sentence=sentence)
    rollouts = asked(task)
    assert {rollout.prompt for rollout in rollouts} == {"Hi."}
    assert len({rollout.prompt_id for rollout in rollouts}) == 9
    assert {(rollout.metadata or {})["unit"] for rollout in rollouts} == {"words"}


def test_a_chat_message_gets_the_sentence_and_the_wrapped_task_grades() -> None:
    inner = Playground()
    task = LengthRequirement(task=inner, targets=(8,), constraints=("at_least",), unit="words", sentence="{target}!")
    for row, rollout in zip(islice(inner.prompts("all", 0), 20), asked(task, 20), strict=True):
        plain: Any = row.rollout
        prompt: Any = rollout.prompt
        assert prompt[-1]["content"] == plain.prompt[-1]["content"] + "\n\n8!"
        assert (rollout.reference, rollout.domain) == (plain.reference, plain.domain)
        for text in (plain.reference, f"The answer is {plain.reference}.", "no"):
            assert task.grade(rollout, text) == inner.grade(plain, text)


def test_the_wrapped_task_sees_its_own_id_and_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(MathVista, "grade", lambda self, prompt, text: seen.append((prompt.prompt_id, prompt.metadata)))
    task = LengthRequirement(task=MathVista())
    facts = {"choices": ["1"], "constraint": "at_most", "target": 5, "unit": "tokens", "item": "a"}
    task.grade(Rollout(prompt="?", prompt_id="a at_most 5 tokens", metadata=facts), "1")
    assert seen == [("a", {"choices": ["1"]})]


def test_a_prompt_that_cannot_be_asked_is_one_problem() -> None:
    rows = list(LengthRequirement(task=LengthRequirement(task=Texts(texts=["Hi."]), targets=(4,))).prompts("all", 0))
    assert [row.rollout for row in rows] == [None] * 3
    assert rows[0].problem == "the prompt's metadata has a `constraint` already; a length is asked for once"


def test_it_is_chosen_like_any_task() -> None:
    task = LengthRequirement(task=Playground(), targets=(8, 16), sentence=None)
    rollouts = load_prompts(task, None, 5 * 6, 0).rollouts
    assert len({(rollout.metadata or {})["item"] for rollout in rollouts}) == 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"targets": (0,)}, r"`targets` must be lengths of at least 1, got \(0,\)"),
        ({"constraints": ("about",)}, "`constraints` may be equal_to, at_most, at_least, got 'about'"),
        ({"sentence": "{n} tokens"}, r"`sentence` may hold \{constraint\}, \{target\} and \{unit\}"),
        ({"sentence": "{"}, "`sentence` may hold"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        LengthRequirement(task=LIFEBench(), **options)

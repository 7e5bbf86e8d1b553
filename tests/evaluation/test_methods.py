from __future__ import annotations

from typing import Any

import pytest
import torch

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Prompt
from lenvm.decoding.generate import Completion
from lenvm.decoding.rules import AtMost, EntropyGate, EqualTo, PerRow, Tilt
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.methods import (
    AbstractMethod,
    AskForLength,
    BestOfMany,
    ByConstraint,
    ForcedLength,
    Guided,
    LengthPenalty,
    Plain,
    Task,
    takes_target,
    with_target,
)
from lenvm.evaluation.setup import Setup, load_setup
from lenvm.metrics import Constraint
from lenvm.playground import POLICY_FOLDER

PROMPTS: list[Prompt] = [
    [{"role": "user", "content": "What is 3+4?"}],
    [{"role": "user", "content": "What does this program print?\nx=3\nfor i in range(2):\n x+=4\nprint(x)"}],
]


def setup_for(value_model: str | None = None, num_samples: int = 1, **sampling: Any) -> Setup:
    settings = SamplingSettings(**{"max_tokens": 60, **sampling})
    return load_setup(str(POLICY_FOLDER), value_model, settings, num_samples, None, 8)


def write(
    method: AbstractMethod, setup: Setup, target: int | None, constraint: Constraint = "equal"
) -> list[Completion]:
    task = Task(PROMPTS, target, constraint)
    method.check(setup, task)
    return sorted(method.write(setup, task), key=lambda c: (c.prompt, c.sample))


def by_transformers(setup: Setup, **options: Any) -> list[list[int]]:
    """Greedy completions by `generate`, one prompt at a time."""
    found = []
    for ids in RolloutEncoder(setup.tokenizer, "auto").encode_prompts(PROMPTS):
        given = torch.tensor([ids])
        generate: Any = setup.generator.generate
        written = generate(
            given, attention_mask=torch.ones_like(given), do_sample=False,
            **{"max_new_tokens": 60, **options},
        )  # fmt: skip
        found.append(written[0, len(ids) :].tolist())
    return found


@pytest.mark.parametrize(
    ("method", "target", "options"),
    [
        (Plain(), None, {}),
        (ForcedLength(), 40, {"min_new_tokens": 40, "max_new_tokens": 40}),
        (ForcedLength(), 5, {"min_new_tokens": 5, "max_new_tokens": 5}),
        (LengthPenalty(start=3, factor=1.05), None, {"exponential_decay_length_penalty": (3, 1.05)}),
        (LengthPenalty(share=0.25, factor=1.3), 16, {"exponential_decay_length_penalty": (4, 1.3)}),
    ],
)
def test_methods_of_transformers_write_what_generate_writes(
    method: AbstractMethod, target: int | None, options: dict[str, Any]
) -> None:
    setup = setup_for(temperature=0)
    # the prompts differ in length, and are written in one batch
    assert [c.ids for c in write(method, setup, target)] == by_transformers(setup, **options)


def test_forced_length_is_a_limit_on_the_side_that_the_constraint_has() -> None:
    setup = setup_for(num_samples=4)
    eos = setup.tokenizer.eos_token_id
    equal = write(ForcedLength(), setup, 30)
    assert all(len(c.ids) == 30 and c.finish_reason == "length" and eos not in c.ids for c in equal)
    at_most = write(ForcedLength(), setup, 20, "at_most")
    assert {c.finish_reason for c in at_most} == {"stop", "length"}
    plain = {(c.prompt, c.sample): c.ids for c in write(Plain(), setup, None)}
    assert all(c.ids == plain[c.prompt, c.sample][:20] for c in at_most)
    at_least = write(ForcedLength(), setup, 30, "at_least")
    assert all(len(c.ids) > 30 for c in at_least)


def test_asking_puts_a_sentence_behind_the_users_words() -> None:
    seen: list[list[Prompt]] = []

    class Recorder:
        def stream(self, prompts: list[Prompt]) -> list[Completion]:
            seen.append(prompts)
            return []

    text = "Tell a story. Be brief."
    chat = [{"role": "system", "content": "Hi."}, {"role": "user", "content": text}]
    recorder: Any = Recorder()
    AskForLength(instead_of=["Be brief."]).write(recorder, Task([text, chat], 12, "at_most"))
    asked = "Tell a story. Your answer must be at most 12 tokens."
    assert seen == [[asked, [chat[0], {"role": "user", "content": asked}]]]
    assert chat[1]["content"] == text
    hint = AskForLength(template="Be quick.")
    assert not hint.uses_target
    hint.write(recorder, Task([text], None, "equal"))
    assert seen[1] == ["Tell a story. Be brief. Be quick."]
    assert AskForLength(template="Stay {constraint} that.").uses_target
    with pytest.raises(InputError, match=r"`template` may hold {n} and {constraint} and no other braces, got 'a {m}'"):
        AskForLength(template="a {m}")


def test_asking_needs_a_text_of_the_user_and_says_so_before_anything_is_written() -> None:
    setup = setup_for()
    with pytest.raises(
        InputError, match="end with a text of the user, but one ends with a text of the assistant; give"
    ):
        AskForLength().check(setup, Task([PROMPTS[0], [{"role": "assistant", "content": "x"}]], 3, "equal"))
    with pytest.raises(InputError, match="but one ends with parts of a message of the user"):
        AskForLength().check(setup, Task([[{"role": "user", "content": [{"type": "text"}]}]], 3, "equal"))


def test_methods_say_which_prompt_they_send() -> None:
    task = Task(["Go."], 12, "at_most")
    assert Plain().prompt_of("Go.", task) == "Go."
    each = ByConstraint(equal=Plain(), at_most=AskForLength(template="In {n}!"), at_least=Plain())
    assert each.prompt_of("Go.", task) == "Go. In 12!"
    assert each.prompt_of("Go.", task._replace(constraint="at_least")) == "Go."


def test_best_of_many_takes_the_nearest_of_the_plain_completions_that_ended() -> None:
    setup = setup_for(num_samples=2, max_tokens=40)
    best = write(BestOfMany(attempts=6), setup, 25)
    assert [(c.prompt, c.sample) for c in best] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    plain = write(Plain(), setup_for(num_samples=12, max_tokens=40), None)
    for kept in best:
        tried = [c for c in plain if c.prompt == kept.prompt and c.sample // 6 == kept.sample]
        ended = [c for c in tried if c.finish_reason == "stop"] or tried
        # below the target a token costs 2.5 times as much as above
        cost = {len(c.ids): max(5 * (25 - len(c.ids)), 2 * (len(c.ids) - 25)) for c in ended}
        assert cost[len(kept.ids)] == min(cost.values())
        assert kept.ids in [c.ids for c in ended]


def test_the_target_reaches_rules_inside_rules() -> None:
    wrapped = EntropyGate(rule=EqualTo(n=1, mode="hard"), threshold=0.2)
    assert takes_target(wrapped)
    assert with_target(wrapped, 9) == EntropyGate(rule=EqualTo(n=9, mode="hard"), threshold=0.2)
    many = PerRow(rules=[AtMost(n=4), Tilt(beta=2.0)], which=[0, 1])
    assert with_target(many, 7).rules == [AtMost(n=7), Tilt(beta=2.0)]  # type: ignore[attr-defined]
    assert not takes_target(EntropyGate(rule=Tilt(beta=1.0), threshold=0.1))


def test_a_guided_method_is_the_rule_at_the_target(value_model: str) -> None:
    setup = setup_for(value_model, top_k=8)
    method = Guided(rule=EqualTo(n=1, mode="hard"), scorer="tree")
    assert method.uses_target
    written = write(method, setup, 20)
    model = setup.model(None)
    again = setup.stream(PROMPTS, value_model=model, rule=EqualTo(n=20, mode="hard"), scorer="tree")
    assert [c.ids for c in written] == [c.ids for c in sorted(again, key=lambda c: c.prompt)]
    assert not Guided(rule=Tilt(beta=1.0)).uses_target


def test_what_cannot_be_run_is_said_first(value_model: str) -> None:
    rule = EqualTo(n=1)
    with pytest.raises(InputError, match="a guided method needs a value model; give `--value_model`"):
        write(Guided(rule=rule), setup_for(), 20)
    with pytest.raises(InputError, match="a target of 3 tokens was asked for, but the shortest"):
        write(Guided(rule=rule), setup_for(value_model), 3)
    with pytest.raises(InputError, match="a target of 61 tokens was asked for, but only 60 fit"):
        write(Guided(rule=rule), setup_for(value_model), 61)
    with pytest.raises(InputError, match="this method needs a target length"):
        write(ForcedLength(), setup_for(), None)
    with pytest.raises(InputError, match="`factor` must be positive, `start` and `share` at least 0; got -1"):
        LengthPenalty(factor=-1)
    with pytest.raises(InputError, match="`attempts` must be at least 1, got 0"):
        BestOfMany(attempts=0)

"""Guided writing as a whole: what comes out, in any batch, is what the models say, token by token."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from from_scratch import action_remaining, next_logits, state_remaining
from torch import Tensor
from transformers import (
    ExponentialDecayLengthPenalty,
    LogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import lenvm
from lenvm.decoding.candidates import candidates
from lenvm.decoding.generate import Completion, stream
from lenvm.decoding.loop import Step
from lenvm.decoding.rules import AbstractRule, AtLeast, EntropyGate, EqualTo, PerRow, Tilt
from lenvm.decoding.settings import SamplingSettings
from lenvm.heads import MLPHead
from lenvm.models import LengthValueModel

EOS, GAMMA = 3, 0.97
SHORT = SamplingSettings(temperature=1.5, top_k=15, top_p=0.98, max_tokens=16)
Write = Callable[..., list[Completion]]


@pytest.fixture
def write(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]]) -> Write:
    """Completions of the prompts, by short settings; every option of `generate` can be given."""

    def run(prompts: Any = prompt_ids, value_model: Any = None, **options: Any) -> list[Completion]:
        return lenvm.generate(policy, tokenizer, value_model, prompts, **{"sampling": SHORT, **options})

    return run


def assert_same(ones: list[Completion], others: list[Completion]) -> None:
    assert [(c.prompt, c.sample, c.ids) for c in ones] == [(c.prompt, c.sample, c.ids) for c in others]
    for one, other in zip(ones, others, strict=True):
        assert one.remaining == pytest.approx(other.remaining, abs=1e-7)
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-5)


RULES: dict[str, Any] = {
    "a number for all": EqualTo(n=14, mode="hard"),
    "a number per row": EqualTo(n=[6, 9, 12, 16]),
    "inside another rule": EntropyGate(rule=Tilt(beta=[-9.0, 9.0, 0.0, 4.0]), threshold=[0.0, 0.1, 0.5, 0.2]),
    "a rule per row": PerRow(rules=[Tilt(beta=[5.0, 6.0, 7.0, 8.0]), EqualTo(n=12)], which=[0, 1, 1, 0]),
    "a list of rules": [Tilt(beta=-8.0), EqualTo(n=9, mode="hard"), AtLeast(n=14), Tilt(beta=8.0)],
    "no rule": None,
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_row_gets_in_any_batch_what_it_gets_alone(write: Write, steered: dict[str, Any], rule: Any) -> None:
    options: dict[str, Any] = {**steered, "rule": rule, "num_samples": 2, "with_log_probs": True}
    together = write(**options)
    assert_same(together, write(**options, batch_size=3))
    if rule is RULES["a list of rules"]:
        assert_same(together, write(**options, batch_size=1))


def test_a_row_gets_beside_others_what_it_gets_without_them(
    write: Write, state_model: LengthValueModel, prompt_ids: list[list[int]]
) -> None:
    lengths = [6, 9, 12, 16]
    together = write(value_model=state_model, rule=EqualTo(n=lengths), num_samples=2)
    for i in (2, 0):
        alone = write([prompt_ids[i]], value_model=state_model, rule=EqualTo(n=lengths[i]), num_samples=2)
        assert [c.ids for c in alone] == [c.ids for c in together if c.prompt == i]


def test_the_seed_decides(write: Write, action_model: LengthValueModel) -> None:
    options: dict[str, Any] = {"value_model": action_model, "rule": Tilt(beta=3.0), "num_samples": 4}
    settings = [SamplingSettings(top_k=15, max_tokens=16, seed=seed) for seed in (0, 0, 1)]
    one, again, other = (write(**options, sampling=s) for s in settings)
    assert_same(one, again)
    assert sum(a.ids != b.ids for a, b in zip(one, other, strict=True)) > len(one) / 2


def test_samples_differ_and_so_do_those_of_a_prompt_that_is_given_twice(
    write: Write, prompt_ids: list[list[int]]
) -> None:
    twice = write([prompt_ids[2], prompt_ids[0], prompt_ids[2]], num_samples=4)
    at_once = write([prompt_ids[2]], num_samples=8)
    assert [c.ids for c in at_once] == [c.ids for c in twice if c.prompt != 1]
    assert len({tuple(c.ids) for c in at_once}) > 4


def test_a_tilt_of_0_changes_nothing(write: Write, steered: dict[str, Any]) -> None:
    plain, tilted = write(num_samples=2), write(num_samples=2, rule=Tilt(beta=0.0), **steered)
    assert [c.ids for c in tilted] == [c.ids for c in plain]
    assert not plain[0].remaining
    assert tilted[0].remaining


def test_a_rule_changes_what_is_written(write: Write, steered: dict[str, Any]) -> None:
    plain, hard = write(), write(rule=EqualTo(n=14, mode="hard"), **steered)
    assert sum(a.ids != b.ids for a, b in zip(plain, hard, strict=True)) >= 3


def transformers_greedy(policy: PreTrainedModel, ids: list[int], **options: Any) -> list[int]:
    prompt = torch.tensor([ids])
    written = policy.generate(  # type: ignore[operator]
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=40, **options
    )
    found: list[int] = written[0, len(ids) :].tolist()
    return found


def test_at_temperature_0_it_writes_what_transformers_writes(
    write: Write, policy: PreTrainedModel, prompt_ids: list[list[int]]
) -> None:
    for filters in ({}, {"top_k": 15, "top_p": 0.9}):
        written = write(sampling=SamplingSettings(temperature=0.0, max_tokens=40, **filters))  # type: ignore[arg-type]
        assert [c.ids for c in written] == [transformers_greedy(policy, ids) for ids in prompt_ids]


def test_a_rule_at_temperature_0_takes_the_most_probable_token_of_its_distribution(
    write: Write, state_model: LengthValueModel, policy: PreTrainedModel, prompt_ids: list[list[int]]
) -> None:
    rule, settings = Tilt(beta=6.0), SamplingSettings(temperature=0.0, top_k=6, max_tokens=12)
    written = write(rule=rule, value_model=state_model, sampling=settings)
    for prompt, completion in zip(prompt_ids, written, strict=True):
        for t, token in enumerate(completion.ids):
            prefix = [*prompt, *completion.ids[:t]]
            offered = candidates(next_logits(policy, prefix)[-1:], settings)
            options = offered.ids[0].tolist()
            after = [0.0 if i == EOS else float(state_remaining(state_model, [*prefix, i])[-1]) for i in options]
            horizons = 1 - GAMMA ** torch.tensor([after], dtype=torch.float64)
            new = rule(offered.log_probs, horizons, offered.mask, torch.tensor([t]), GAMMA)
            assert token == offered.ids[0, int(new.argmax())]


def test_completions_come_in_order_and_say_how_they_ended(
    write: Write, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]]
) -> None:
    written = write(num_samples=3, sampling=SamplingSettings(max_tokens=25))
    assert [(c.prompt, c.sample) for c in written] == [(p, s) for p in range(len(prompt_ids)) for s in range(3)]
    assert {c.finish_reason for c in written} == {"stop", "length"}
    for c in written:
        if c.finish_reason == "stop":
            assert c.ids.index(EOS) == len(c.ids) - 1 <= 24
        else:
            assert EOS not in c.ids
            assert len(c.ids) == 25
        assert c.text == tokenizer.decode([i for i in c.ids if i != EOS])
        assert c.remaining == c.horizons == c.log_probs == []


def test_every_way_to_give_prompts_gives_the_same(
    write: Write, tokenizer: PreTrainedTokenizerBase, chats: Any, prompt_ids: list[list[int]], make_model: Any
) -> None:
    by_ids = write()
    texts = [chat[0]["content"] for chat in chats]
    for given, prompt_format in ((chats, None), (texts, "chat"), ([chats[0], *prompt_ids[1:]], None)):
        assert_same(by_ids, write(given, prompt_format=prompt_format))
    plain = write(texts)
    assert [c.ids for c in plain] != [c.ids for c in by_ids]
    assert_same(plain, write([tokenizer(text).input_ids for text in texts]))


def test_text_prompts_are_written_as_the_value_model_was_trained(
    write: Write, chats: Any, make_model: Any, small_backbone: Any
) -> None:
    model = make_model(small_backbone(), MLPHead(32))
    model.prompt_format = "chat"
    texts = [chat[0]["content"] for chat in chats]
    assert [c.ids for c in write(texts, value_model=model)] == [c.ids for c in write(chats)]


def test_predictions_of_the_tree_are_those_of_the_states_that_were_reached(
    write: Write, state_model: LengthValueModel, prompt_ids: list[list[int]]
) -> None:
    for rule in (Tilt(beta=2.0), EqualTo(n=12), None):
        for c in write(value_model=state_model, rule=rule, num_samples=2):
            prompt = prompt_ids[c.prompt]
            exact = state_remaining(state_model, [*prompt, *c.ids])[len(prompt) :]
            exact[torch.tensor(c.ids) == EOS] = 0.0
            assert c.remaining == pytest.approx(exact.tolist(), abs=1e-8)
            assert c.horizons == pytest.approx((1 - GAMMA**exact).tolist(), abs=1e-10)
            assert len(c.remaining) == len(c.horizons) == len(c.ids)


def test_predictions_of_an_action_value_head_are_those_of_the_state_before(
    write: Write, action_model: LengthValueModel, prompt_ids: list[list[int]]
) -> None:
    for rule in (Tilt(beta=2.0), EqualTo(n=12), None):
        for c in write(value_model=action_model, rule=rule, num_samples=2):
            prompt, ids = prompt_ids[c.prompt], torch.tensor(c.ids)
            before = action_remaining(action_model, [*prompt, *c.ids])[len(prompt) - 1 : -1]
            exact = before.gather(-1, ids[:, None]).squeeze(-1).masked_fill(ids == EOS, 0.0)
            assert c.remaining == pytest.approx(exact.tolist(), abs=1e-8)


def test_log_probabilities_are_the_generators_own(
    write: Write, policy: PreTrainedModel, prompt_ids: list[list[int]], state_model: LengthValueModel
) -> None:
    settings = SamplingSettings(temperature=1.7, top_k=8, max_tokens=30)
    keep_going = [MinNewTokensLengthLogitsProcessor(max(map(len, prompt_ids)), 20, EOS)]
    for c in write(
        value_model=state_model, rule=Tilt(beta=3.0), sampling=settings, processors=keep_going, with_log_probs=True
    ):
        prompt = prompt_ids[c.prompt]
        own = torch.log_softmax(next_logits(policy, [*prompt, *c.ids])[len(prompt) - 1 : -1], -1)
        assert c.log_probs == pytest.approx(own.gather(-1, torch.tensor(c.ids)[:, None]).squeeze(-1).tolist(), abs=1e-5)


def test_a_listener_hears_every_token_once(write: Write, state_model: LengthValueModel) -> None:
    ids, remaining = defaultdict(list), defaultdict(list)

    def listen(step: Step) -> None:
        for row, token, left in zip(step.rows, step.ids, step.remaining or [], strict=True):
            ids[row].append(token)
            remaining[row].append(left)

    written = write(value_model=state_model, num_samples=3, batch_size=5, listener=listen)
    assert [c.ids for c in written] == [ids[c.prompt * 3 + c.sample] for c in written]
    assert [c.remaining for c in written] == [remaining[c.prompt * 3 + c.sample] for c in written]
    steps: list[Step] = []
    write(listener=steps.append)
    assert {step.remaining for step in steps} == {None}


def test_completions_are_yielded_as_they_end(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]]
) -> None:
    steps: list[Step] = []
    settings = SamplingSettings(max_tokens=60)
    written = stream(policy, tokenizer, None, prompt_ids, sampling=settings, num_samples=4, listener=steps.append)
    first = next(written)
    assert len(first.ids) <= len(steps) < 60
    assert len(list(written)) == 15


# processors


def test_processors_run_before_the_filters(write: Write, prompt_ids: list[list[int]]) -> None:
    def at_least_20(width: int) -> list[LogitsProcessor]:
        return [MinNewTokensLengthLogitsProcessor(width, 20, EOS)]

    settings = SamplingSettings(max_tokens=40)
    written = write(processors=at_least_20, num_samples=4, batch_size=5, sampling=settings)
    # as there, the end of text comes on top of the new tokens that are asked for
    assert min(len(c.ids) for c in written) == 21
    widest = max(map(len, prompt_ids))
    assert_same(write(processors=at_least_20), write(processors=LogitsProcessorList(at_least_20(widest))))
    assert_same(write(processors=at_least_20), write(processors=at_least_20(widest)))


def test_transformers_length_penalty_does_what_it_does_there(
    write: Write, policy: PreTrainedModel, prompt_ids: list[list[int]]
) -> None:
    written = write(
        processors=lambda width: [ExponentialDecayLengthPenalty((6, 1.3), [EOS], width)],
        sampling=SamplingSettings(temperature=0.0, max_tokens=40),
    )
    expected = [transformers_greedy(policy, ids, exponential_decay_length_penalty=(6, 1.3)) for ids in prompt_ids]
    assert [c.ids for c in written] == expected
    assert expected != [transformers_greedy(policy, ids) for ids in prompt_ids]


class EndAt(LogitsProcessor):
    """Allows nothing but the end of text at the n-th token, and everything else before."""

    def __init__(self, width: int, n: int) -> None:
        self.width, self.n = width, n

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] - self.width + 1 == self.n:
            return torch.full_like(scores, -torch.inf).index_fill_(1, torch.tensor([EOS]), 0.0)
        scores[:, EOS] = -torch.inf
        return scores


@pytest.mark.parametrize("n", [1, 64, 65])
def test_a_completion_may_end_where_the_cache_is_just_full(
    write: Write, state_model: LengthValueModel, prompt_ids: list[list[int]], n: int
) -> None:
    settings = SamplingSettings(top_k=5, max_tokens=80)
    options: dict[str, Any] = {"processors": lambda width: [EndAt(width, n)], "sampling": settings}
    for rule in (None, Tilt(beta=0.0)):
        (written,) = write(prompt_ids[:1], value_model=state_model, rule=rule, **options)
        assert len(written.ids) == n
        assert written.finish_reason == "stop"


# a rule of one's own


@dataclass(frozen=True, kw_only=True)
class Longest(AbstractRule):
    """After so many tokens, takes the candidate with most to come."""

    start: int | list[int]

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        best = horizons.masked_fill(~mask, -1.0).argmax(-1, keepdim=True)
        return torch.full_like(log_probs, -torch.inf).scatter_(-1, best, 0.0)

    def wants(self, log_probs: Tensor, mask: Tensor, generated: Tensor) -> Tensor:
        return super().wants(log_probs, mask, generated) & (generated >= torch.as_tensor(self.start))


def test_a_rule_is_a_small_class_and_decides_only_where_it_wants_to(
    write: Write, steered: dict[str, Any], policy: PreTrainedModel, prompt_ids: list[list[int]]
) -> None:
    model, starts = steered["value_model"], [0, 5, 8, 100]
    plain, written = write(), write(rule=Longest(start=starts), **steered)
    assert written[3].ids == plain[3].ids
    for prompt, start, own, c in zip(prompt_ids, starts, plain, written, strict=True):
        assert c.ids[:start] == own.ids[:start]
        after = action_remaining(model, [*prompt, *c.ids]) if steered["scorer"] == "action_value" else None
        for t in range(start, min(len(c.ids), start + 6)):
            prefix = [*prompt, *c.ids[:t]]
            offered = candidates(next_logits(policy, prefix)[-1:], SHORT)
            options = [i for i in offered.ids[0][offered.mask[0]].tolist() if i != EOS]
            if after is not None:
                exact = after[len(prefix) - 1, options].tolist()
            else:
                exact = [float(state_remaining(model, [*prefix, i])[-1]) for i in options]
            if options:
                assert c.ids[t] == options[exact.index(max(exact))]


@dataclass(frozen=True, kw_only=True)
class Nothing(AbstractRule):
    """Leaves no candidate from the fourth token on."""

    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        return log_probs.masked_fill((generated == 3)[:, None], -torch.inf)

    def wants(self, log_probs: Tensor, mask: Tensor, generated: Tensor) -> Tensor:
        return torch.ones_like(mask[:, 0])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_rule_or_processor_that_leaves_nothing_is_named(
    write: Write, action_model: LengthValueModel, temperature: float
) -> None:
    options: dict[str, Any] = {"sampling": SamplingSettings(temperature=temperature, top_k=5, max_tokens=9)}
    with pytest.raises(lenvm.InputError, match="after 3 tokens of a completion, no candidate has a probability"):
        write(value_model=action_model, rule=Nothing(), **options)
    with pytest.raises(lenvm.InputError, match=r"after 0 tokens .* a rule or processor has ruled out every token"):
        write(processors=[lambda _, scores: torch.full_like(scores, -torch.inf)], **options)


@pytest.mark.parametrize("filters", [{}, {"top_k": 5}, {"top_p": 0.9}, {"temperature": 0.0}])
def test_logits_that_are_not_numbers_are_named(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, filters: dict[str, Any]
) -> None:
    broken = copy.deepcopy(policy)
    with torch.no_grad():
        broken.base_model.norm.weight.fill_(torch.nan)
    with pytest.raises(lenvm.InputError, match="the generator's logits are not numbers"):
        lenvm.generate(broken, tokenizer, None, [[5, 6]], sampling=SamplingSettings(max_tokens=3, **filters))


# generators as they are


def test_logits_beyond_the_tokenizer_are_no_candidates_for_a_value_model(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, state_model: LengthValueModel, action_model: Any
) -> None:
    padded = copy.deepcopy(policy)
    padded.resize_token_embeddings(704, mean_resizing=False)
    with torch.no_grad():
        padded.get_input_embeddings().weight[668:] = 3.0 * padded.get_input_embeddings().weight[300:336]
    prompts, settings = [[1, 50, 2], [1, 60, 70, 2]], SamplingSettings(top_k=30, max_tokens=12)
    plain = lenvm.generate(padded, tokenizer, None, prompts, sampling=settings, num_samples=8)
    assert max(max(c.ids) for c in plain) >= 668
    for model in (state_model, action_model):
        for rule in (Tilt(beta=1.0), None):
            guided = lenvm.generate(padded, tokenizer, model, prompts, rule=rule, sampling=settings, num_samples=8)
            assert max(max(c.ids) for c in guided) < 668


def test_any_of_several_ends_ends_a_completion_and_is_never_read(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, state_model: LengthValueModel, prompt_ids: Any
) -> None:
    ends = [EOS, tokenizer("7", add_special_tokens=False).input_ids[-1]]
    generator = copy.deepcopy(policy)
    generator.generation_config.eos_token_id = ends
    written = lenvm.generate(
        generator, tokenizer, state_model, prompt_ids, rule=Tilt(beta=1.0), num_samples=3, sampling=SHORT
    )
    stopped = [c for c in written if c.finish_reason == "stop"]
    assert {c.ids[-1] for c in stopped} == set(ends)
    for c in written:
        assert not set(c.ids[:-1]) & set(ends)
        assert (c.remaining[-1] == 0) == (c.finish_reason == "stop")
        assert c.text == tokenizer.decode([i for i in c.ids if i not in ends])


def test_a_value_model_with_a_shorter_context_limits_the_completion(
    write: Write, make_model: Any, small_backbone: Any, prompt_ids: list[list[int]]
) -> None:
    longest = max(map(len, prompt_ids))
    model = make_model(small_backbone(context=longest + 3), MLPHead(32))
    keep_going = MinNewTokensLengthLogitsProcessor(longest, 40, EOS)
    written = write(value_model=model, rule=Tilt(beta=1.0), processors=[keep_going])
    assert [len(c.ids) for c in written] == [min(16, longest + 3 - len(ids)) for ids in prompt_ids]
    for c in written:
        prompt = prompt_ids[c.prompt]
        exact = state_remaining(model, [*prompt, *c.ids])[len(prompt) :]
        assert c.remaining == pytest.approx(exact.tolist(), abs=1e-8)


def test_one_folder_or_name_is_enough_for_a_generator(tmp_path: Any, policy: PreTrainedModel, write: Write) -> None:
    from lenvm.playground import POLICY_FOLDER

    settings = SamplingSettings(temperature=0.0, max_tokens=20)
    (by_name,) = lenvm.generate(str(POLICY_FOLDER), None, None, ["Count from 1 to 3."], sampling=settings)
    (by_model,) = write(["Count from 1 to 3."], sampling=settings)
    assert by_name.ids == by_model.ids


def test_no_prompts_give_no_completions(write: Write, state_model: LengthValueModel) -> None:
    assert write([]) == []
    assert write([], value_model=state_model, rule=EqualTo(n=9)) == []
    assert write([], value_model=state_model, rule=[]) == []

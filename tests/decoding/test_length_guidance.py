"""Guidance inside transformers' own `generate`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

import lenvm
from lenvm.decoding.candidates import candidates
from lenvm.decoding.logits_processor import LengthGuidance
from lenvm.decoding.rules import AbstractRule, EqualTo, Tilt
from lenvm.decoding.settings import SamplingSettings
from lenvm.heads import ActionValueHead, MLPHead
from lenvm.models import LengthValueModel

EOS, TOKENS = 3, 20
FILTERS = SamplingSettings(temperature=1.5, top_k=15, top_p=0.98)
BEAMS = r"as in beam search, which length guidance does not support; use greedy decoding or sampling \(`num_beams=1`\)"
RULES = [EqualTo(n=16, mode="hard"), EqualTo(n=[8, 12, 16, 20]), Tilt(beta=[-9.0, 9.0, 0.0, 5.0])]


def left_padded(prompts: list[list[int]], width: int | None = None) -> dict[str, Tensor]:
    width = width or max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    return {"input_ids": ids, "attention_mask": mask}


def written(generator: Any, prompts: list[list[int]], guidance: Any, width: int | None = None, **options: Any) -> Any:
    """What `generate` writes after each prompt, up to and with the end of text."""
    inputs = left_padded(prompts, width)
    more = guidance if isinstance(guidance, list) else [guidance]
    given = {"max_new_tokens": TOKENS, "do_sample": False, **options}
    sequences = generator.generate(**inputs, logits_processor=more, **given)
    new = sequences[:, inputs["input_ids"].shape[1] :].tolist()
    return [row[: row.index(EOS) + 1] if EOS in row else row for row in new]


def guided(policy: Any, tokenizer: Any, steered: dict[str, Any], rule: AbstractRule, **options: Any) -> LengthGuidance:
    return LengthGuidance(
        policy, tokenizer, steered["value_model"], rule, **{"scorer": steered["scorer"], "sampling": FILTERS, **options}
    )


@pytest.mark.parametrize("rule", RULES, ids=["hard", "per row", "tilt"])
def test_greedy_decoding_writes_what_ours_writes(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: list[list[int]],
    steered: dict[str, Any],
    rule: AbstractRule,
) -> None:
    greedy = SamplingSettings(temperature=0.0, top_k=15, top_p=0.98, max_tokens=TOKENS)
    ours = lenvm.generate(policy, tokenizer, prompts=prompt_ids, rule=rule, sampling=greedy, **steered)
    with guided(policy, tokenizer, steered, rule, sampling=greedy) as guidance:
        assert written(policy, prompt_ids, guidance) == [c.ids for c in ours]


def test_samples_of_one_prompt_share_its_parameters(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]], steered: dict[str, Any]
) -> None:
    rule = EqualTo(n=[8, 12, 16, 20], mode="hard")  # leaves nothing to chance
    ours = lenvm.generate(
        policy,
        tokenizer,
        prompts=prompt_ids,
        rule=rule,
        sampling=SamplingSettings(temperature=1.5, top_k=15, top_p=0.98, max_tokens=TOKENS),
        **steered,
    )
    expected = [c.ids for c in ours for _ in range(2)]
    assert len(set(map(tuple, expected))) == 4
    with guided(policy, tokenizer, steered, rule) as guidance:
        sampled = written(policy, prompt_ids, guidance, do_sample=True, top_k=0, num_return_sequences=2)
    assert sampled == expected


@pytest.mark.parametrize("beta", [0.0, 6.0])
def test_sampling_draws_from_the_distribution_of_the_rule(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, action_model: LengthValueModel, beta: float
) -> None:
    prompt, settings, count = [1, 324, 265, 224, 22, 14], SamplingSettings(temperature=3.0, top_k=6), 1000
    with torch.no_grad():
        offered = candidates(policy(torch.tensor([prompt])).logits[:, -1], settings)
        raw = action_model(torch.tensor([prompt]))[:, -1]
        head: Any = action_model.head
        horizons = head.next_horizon(raw, offered.ids, action_model.target, action_model.gamma)
    expected = torch.softmax(offered.log_probs[0] + beta * horizons[0].masked_fill(offered.ids[0] == EOS, 0.0), -1)
    guidance = LengthGuidance(policy, tokenizer, action_model, Tilt(beta=beta), sampling=settings)
    rows = written(policy, [prompt], guidance, do_sample=True, top_k=0, max_new_tokens=1, num_return_sequences=count)
    counts = torch.bincount(torch.tensor(rows).flatten(), minlength=668)
    shares = counts[offered.ids[0]] / count
    assert shares.sum() == pytest.approx(1.0)
    assert ((shares - expected).abs() <= 4.5 * (expected * (1 - expected) / count).sqrt()).all()
    assert (expected > 0.03).sum() >= 4


def test_plain_sampling_and_a_tilt_of_0_write_the_same(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]], steered: dict[str, Any]
) -> None:
    torch.manual_seed(11)
    plain = written(policy, prompt_ids, [], do_sample=True, temperature=1.5, top_k=15, top_p=0.98)
    torch.manual_seed(11)
    with guided(policy, tokenizer, steered, Tilt(beta=0.0)) as guidance:
        assert written(policy, prompt_ids, guidance, do_sample=True, top_k=0) == plain


def test_one_guidance_serves_several_calls(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]], steered: dict[str, Any]
) -> None:
    rule = EqualTo(n=16, mode="hard")
    with guided(policy, tokenizer, steered, rule) as guidance:
        first = written(policy, prompt_ids, guidance)
        second = written(policy, prompt_ids[::-1], guidance)
        third = written(policy, prompt_ids[:2], guidance)
    assert second == first[::-1]
    assert third == first[:2]


def test_a_new_call_is_not_taken_for_beam_search_even_if_it_is_one_token_longer(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]], state_model: Any
) -> None:
    width = max(map(len, prompt_ids))
    guidance = LengthGuidance(policy, tokenizer, state_model, Tilt(beta=2.0))
    expected = written(policy, prompt_ids[::-1], guidance)
    written(policy, prompt_ids, guidance, max_new_tokens=4, min_new_tokens=4)
    assert written(policy, prompt_ids[::-1], guidance, width=width + 4) == expected


def test_min_new_tokens_runs_before_guidance(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]], state_model: Any
) -> None:
    guidance = LengthGuidance(policy, tokenizer, state_model, EqualTo(n=4, mode="hard"))
    short = written(policy, prompt_ids, guidance)
    assert min(map(len, short)) < 12
    assert min(map(len, written(policy, prompt_ids, guidance, min_new_tokens=12))) > 12


@pytest.mark.parametrize("options", [{}, {"min_new_tokens": 20}, {"num_return_sequences": 2}, {"do_sample": True}])
def test_beam_search_is_refused(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: list[list[int]],
    shared_model: LengthValueModel,
    options: dict[str, Any],
) -> None:
    with (
        LengthGuidance(policy, tokenizer, shared_model, Tilt(beta=2.0)) as guidance,
        pytest.raises(lenvm.InputError, match=BEAMS),
    ):
        written(policy, prompt_ids, guidance, num_beams=3, **options)


class Always(LogitsProcessor):
    """Allows one token only."""

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return torch.full_like(scores, -torch.inf).index_fill_(1, torch.tensor([self.token]), 0.0)


def test_a_processor_that_overrules_guidance_is_noticed(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]], state_model: Any
) -> None:
    guidance = LengthGuidance(policy, tokenizer, state_model, Tilt(beta=2.0))
    with pytest.raises(lenvm.InputError, match=r"4 row\(s\) went on with a token that guidance had ruled out"):
        written(policy, prompt_ids, [guidance, Always(600)])
    assert written(policy, prompt_ids, [Always(600), guidance], max_new_tokens=3) == [[600] * 3] * 4


def test_a_shared_backbone_is_heard_until_it_is_closed(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]], shared_model: Any
) -> None:
    head: Any = policy.get_output_embeddings()
    with LengthGuidance(policy, tokenizer, shared_model, Tilt(beta=2.0)) as guidance:
        assert len(head._forward_pre_hooks) == 1
        written(policy, prompt_ids, guidance, max_new_tokens=2)
    assert not head._forward_pre_hooks
    guidance.close()
    with pytest.raises(lenvm.InputError, match="this LengthGuidance is closed"):
        written(policy, prompt_ids, guidance)


def test_what_does_not_fit_is_refused(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: list[list[int]],
    state_model: LengthValueModel,
    make_model: Any,
    small_backbone: Any,
) -> None:
    def ask(rule: AbstractRule, model: LengthValueModel = state_model, **options: Any) -> None:
        guidance = LengthGuidance(policy, tokenizer, model, rule, **options)
        written(policy, prompt_ids, guidance)

    with pytest.raises(lenvm.InputError, match="a target of 1 tokens was asked for, but the shortest completion"):
        ask(EqualTo(n=1))
    with pytest.raises(lenvm.InputError, match=r"a target of 1020 tokens was asked for, but only 9.. fit"):
        ask(EqualTo(n=1020))
    with pytest.raises(lenvm.InputError, match="the rule has parameters for 3 prompts, but the batch has 4 rows"):
        ask(EqualTo(n=[9, 9, 9]))
    with pytest.raises(lenvm.InputError, match="ActionValueScorer needs a value model with an ActionValueHead"):
        ask(EqualTo(n=9), scorer="action_value")
    other = copy.copy(state_model)
    other.tokenizer_fingerprint = "0123456789abcdef"
    with pytest.raises(lenvm.InputError, match="the value model was trained with a tokenizer of fingerprint 0123"):
        ask(EqualTo(n=9), other)
    longest = max(map(len, prompt_ids))
    narrow = make_model(small_backbone(context=longest + 5), MLPHead(32))
    with pytest.raises(lenvm.InputError, match=f"a completion has outgrown the context of {longest + 5} tokens"):
        ask(Tilt(beta=0.0), narrow)
    full = make_model(small_backbone(context=longest), ActionValueHead(32, 668, rank=8))
    with pytest.raises(lenvm.InputError, match=f"has {longest} tokens and fills the context of {longest}"):
        ask(Tilt(beta=0.0), full)

"""What cannot work is said in one sentence, before the generator has run once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from from_scratch import tokens_read
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

import lenvm
from lenvm.decoding.rules import AtLeast, EqualTo, MatchHorizon, PerRow, Tilt
from lenvm.decoding.settings import SamplingSettings
from lenvm.heads import MLPHead
from lenvm.models import LengthValueModel
from lenvm.playground import POLICY_FOLDER


@pytest.fixture(autouse=True)
def nothing_is_read(policy: PreTrainedModel) -> Iterator[None]:
    with tokens_read(policy) as read:
        yield
    assert not read


@pytest.fixture
def refused(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    state_model: LengthValueModel,
    prompt_ids: list[list[int]],
) -> Any:
    """What `generate` says to these options."""

    def ask(**options: Any) -> str:
        given = {"prompts": prompt_ids, "value_model": state_model, "sampling": SamplingSettings(max_tokens=60)}
        asked: dict[str, Any] = {"generator": policy, "tokenizer": tokenizer, **given, **options}
        with pytest.raises(lenvm.InputError) as caught:
            lenvm.generate(**asked)
        return str(caught.value)

    return ask


def test_a_value_model_of_another_tokenizer(refused: Any, make_model: Any, small_backbone: Any) -> None:
    other = make_model(small_backbone(), MLPHead(32))
    other.tokenizer_fingerprint = "0123456789abcdef"
    for rule in (None, Tilt(beta=1.0)):
        message = refused(value_model=other, rule=rule)
        assert "the value model was trained with a tokenizer of fingerprint 0123456789abcdef" in message
    smaller = make_model(small_backbone(vocab_size=600), MLPHead(32))
    assert "the tokenizer has 668 tokens, the value model only 600" in refused(value_model=smaller)


@pytest.mark.parametrize("rule", [EqualTo(n=1), MatchHorizon(n=1), EqualTo(n=[9, 9, 1, 9]), AtLeast(n=1)])
def test_a_target_below_the_shortest_completion(refused: Any, rule: Any) -> None:
    message = refused(rule=rule)
    assert "a target of 1 tokens was asked for, but the shortest completion" in message
    assert "has 2; ask for 2 or more" in message


def test_a_target_beyond_the_limit_or_the_context(refused: Any, prompt_ids: list[list[int]]) -> None:
    for rule in (EqualTo(n=61), [Tilt(beta=1.0)] * 3 + [AtLeast(n=61)], EqualTo(n=[9, 61, 9, 9])):
        assert "a target of 61 tokens was asked for, but only 60 fit" in refused(rule=rule)
    roomy = SamplingSettings(max_tokens=2000)
    room = 1024 - max(map(len, prompt_ids))
    assert f"a target of 1024 tokens was asked for, but only {room} fit" in refused(
        rule=EqualTo(n=1024), sampling=roomy
    )


def test_a_target_has_to_fit_its_own_prompt_and_no_other(
    policy: PreTrainedModel, refused: Any, prompt_ids: list[list[int]]
) -> None:
    long, roomy = (prompt_ids[2] * 60)[:1000], SamplingSettings(max_tokens=500)
    options: dict[str, Any] = {"prompts": [prompt_ids[0], long], "sampling": roomy}
    assert "a target of 30 tokens was asked for, but only 24 fit" in refused(rule=EqualTo(n=[30, 30]), **options)
    assert "a target of 501 tokens was asked for, but only 500 fit" in refused(rule=EqualTo(n=[501, 9]), **options)
    # the same targets, each with the prompt that has room for it, get as far as what is wrong besides
    with pytest.raises(lenvm.InputError, match="scorer"):
        raise lenvm.InputError(refused(rule=EqualTo(n=[400, 20]), scorer="none", **options))


@pytest.mark.parametrize("beta", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_a_strength_that_is_not_finite(beta: Any) -> None:
    with pytest.raises(lenvm.InputError, match="`beta` must be finite"):
        Tilt(beta=beta)


def test_a_rule_without_a_value_model(refused: Any) -> None:
    assert "a rule needs a value model to predict lengths with" in refused(value_model=None, rule=Tilt(beta=1.0))


def test_the_wrong_number_of_rules_or_parameters(refused: Any) -> None:
    assert "there are 4 prompts, got 3 rules" in refused(rule=[Tilt(beta=1.0)] * 3)
    assert "the rule has parameters for 3 prompts, but there are 4" in refused(rule=EqualTo(n=[9, 9, 9]))
    nested = PerRow(rules=[Tilt(beta=1.0), EqualTo(n=9)], which=[0, 1])
    assert "the rule has parameters for 2 prompts, but there are 4" in refused(rule=nested)
    assert "one value for every row" in refused(
        rule=[EqualTo(n=[5, 6]), Tilt(beta=1.0), EqualTo(n=[5, 6]), Tilt(beta=0)]
    )


def test_a_scorer_that_does_not_fit_or_does_not_exist(refused: Any) -> None:
    message = refused(scorer="action_value", rule=Tilt(beta=1.0))
    assert "ActionValueScorer needs a value model with an ActionValueHead, this one has a MLPHead" in message
    assert "`scorer` must be `auto`, `tree`, `action_value` or a scorer, got 'exact'" in refused(scorer="exact")


def test_prompts_without_tokens_or_without_room(refused: Any, prompt_ids: list[list[int]], tokenizer: Any) -> None:
    for value_model in (None, "default"):
        options: dict[str, Any] = {} if value_model else {"value_model": None}
        assert "prompt 1 has no tokens; drop empty prompts" in refused(prompts=[prompt_ids[0], []], **options)
        message = refused(prompts=[prompt_ids[0], (prompt_ids[0] * 100)[:1024]], **options)
        assert message == "prompt 1 has 1024 tokens and fills the context of 1024; drop or shorten it."
        assert "prompt 0 has token ids from 5 to 668, but the models know 0 to 667" in refused(
            prompts=[[5, 668]], **options
        )
        assert "prompt 0 has token ids from -1 to 5" in refused(prompts=[[5, -1]], **options)


def test_a_prompt_that_fills_the_value_models_context(refused: Any, make_model: Any, small_backbone: Any) -> None:
    model = make_model(small_backbone(context=9), MLPHead(32))
    assert "prompt 1 has 9 tokens and fills the context of 9" in refused(value_model=model, prompts=[[5] * 8, [5] * 9])


def test_prompts_that_are_no_prompts(refused: Any, chats: Any) -> None:
    for prompts in ("What is 1+1?", [1, 2, 3], chats[0], [None]):
        assert (
            "`prompts` must be a list whose entries are texts, lists of chat messages or lists of token ids"
            in refused(prompts=prompts)
        )
    bare = [{"role": "nobody"}]
    assert "prompt 1: " in refused(prompts=[chats[0], bare], prompt_format="chat")


def test_counts_below_1(refused: Any) -> None:
    for name in ("num_samples", "batch_size"):
        assert "`num_samples` and `batch_size` must be at least 1, got" in refused(**{name: 0})


def test_models_that_are_nowhere(refused: Any, tmp_path: Any) -> None:
    assert "could not load a tokenizer from 'no/such'" in refused(generator="no/such", tokenizer=None)
    assert "could not load the generator" in refused(generator=str(tmp_path))
    assert "is neither a folder nor a model" in refused(value_model="no/such")


def test_a_shared_backbone_of_another_generator(
    refused: Any, policy: PreTrainedModel, shared_model: LengthValueModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    config = AutoConfig.from_pretrained(POLICY_FOLDER, num_hidden_layers=2, layer_types=["full_attention"] * 2)
    other = AutoModelForCausalLM.from_config(config).double().eval()
    with tokens_read(other) as read:
        message = refused(generator=other, value_model=shared_model, rule=Tilt(beta=1.0))
    assert "but was given another generator" in message
    assert not read
    shared_model.backbone.attach(policy)  # type: ignore[operator]
    assert shared_model.backbone.transformer is policy.base_model


def test_a_generator_without_an_end_of_text(
    refused: Any, policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    endless, mute = copy.deepcopy(policy), copy.deepcopy(tokenizer)
    endless.generation_config.eos_token_id = None
    mute.eos_token = None
    message = refused(generator=endless, tokenizer=mute, value_model=None)
    assert "the generator has no end-of-text token" in message


def test_a_generator_of_unknown_origin_needs_its_tokenizer(refused: Any, policy: PreTrainedModel) -> None:
    unnamed = copy.deepcopy(policy)
    unnamed.config.name_or_path = ""
    assert "give its `tokenizer` too" in refused(generator=unnamed, tokenizer=None)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerBase

from lenvm.backbones import PretrainedBackbone
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Rollout, parse_rollout
from lenvm.errors import InputError
from lenvm.playground import POLICY_FOLDER, as_prompt
from lenvm.playground.corpus import draw_distinct_problems
from lenvm.rollout import (
    SamplingRequest,
    SamplingSettings,
    TransformersSampler,
    load_generator,
    sampling_requests,
    strictly,
)
from lenvm.rollout.engines import Failed

Key = tuple[str, int]
Sample = Callable[..., dict[Key, Rollout]]


@pytest.fixture(scope="module")
def policy() -> PreTrainedModel:
    """The shipped policy, in float64: its rounding cannot move a draw across the border between two tokens."""
    return load_generator(str(POLICY_FOLDER)).double()


@pytest.fixture(scope="module")
def requests(tokenizer: PreTrainedTokenizerBase) -> list[SamplingRequest]:
    """Prompts of different lengths from all three domains."""
    prompts = [as_prompt(p) for p in draw_distinct_problems(6, seed=3, held_out=True)]
    made = sampling_requests(prompts, RolloutEncoder(tokenizer), range(1))
    assert len({len(request.prompt_ids) for request in made}) > 3
    return made


@pytest.fixture
def sample(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: list[SamplingRequest]) -> Sample:
    """Completions by prompt and sample number; options are those of SamplingSettings."""

    def run(
        num_samples: int = 2, batch_size: int = 64, chosen: list[SamplingRequest] = requests, **options: Any
    ) -> dict[Key, Rollout]:
        settings = SamplingSettings(**{"max_tokens": 60, **options})
        rows = list(
            TransformersSampler(policy, tokenizer, settings, batch_size).sample(
                r._replace(samples=tuple(range(num_samples))) for r in chosen
            )
        )
        found = {(row.prompt_id, (row.metadata or {})["sample"]): row for row in rows}
        assert len(rows) == len(found) == len(chosen) * num_samples
        return found

    return run


@pytest.mark.parametrize("batch_size", [1, 5, 7])
def test_the_rows_are_the_same_whatever_the_batch(sample: Sample, batch_size: int) -> None:
    assert sample(batch_size=batch_size) == sample(batch_size=64)


def test_the_rows_are_the_same_whatever_is_asked_beside_them(sample: Sample, requests: list[SamplingRequest]) -> None:
    everything = sample(num_samples=3)
    some = sample(num_samples=2, chosen=requests[::-2])
    assert some.items() <= everything.items()


def test_the_seed_decides_every_completion(sample: Sample) -> None:
    one, again, other = sample(seed=0), sample(seed=0), sample(seed=1)
    assert one == again
    assert sum(one[key].completion_ids != other[key].completion_ids for key in one) > len(one) / 3
    assert len({tuple(row.completion_ids or []) for row in one.values()}) > len(one) / 3


def test_a_higher_limit_only_continues_what_was_cut(sample: Sample) -> None:
    short, long = sample(max_tokens=20), sample(max_tokens=60)
    assert {row.finish_reason for row in short.values()} == {"stop", "length"}
    for key, row in short.items():
        assert (long[key].completion_ids or [])[: len(row.completion_ids or [])] == row.completion_ids
        if row.finish_reason == "stop":
            assert long[key] == row


def test_a_finished_row_ends_with_its_only_eos_and_a_cut_row_has_none(
    sample: Sample, tokenizer: PreTrainedTokenizerBase
) -> None:
    eos = tokenizer.eos_token_id
    rows = sample(num_samples=4, max_tokens=25).values()
    for row in rows:
        ids = row.completion_ids or []
        if row.finish_reason == "stop":
            assert ids.index(eos) == len(ids) - 1 <= 24
        else:
            assert eos not in ids
            assert len(ids) == 25
        assert row.completion == tokenizer.decode(ids, skip_special_tokens=True)
    assert {row.finish_reason for row in rows} == {"stop", "length"}


def test_one_token_is_a_completion(sample: Sample) -> None:
    rows = sample(max_tokens=1).values()
    assert {(row.finish_reason, len(row.completion_ids or [])) for row in rows} == {("length", 1)}


def test_rows_carry_what_is_known_of_their_prompt(sample: Sample, requests: list[SamplingRequest]) -> None:
    asked = {request.rollout.prompt_id: request for request in requests}
    for (prompt_id, _), row in sample().items():
        known = asked[prompt_id]
        assert row.prompt_ids == known.prompt_ids
        for name in ("prompt", "domain", "reference"):
            assert getattr(row, name) == getattr(known.rollout, name)
        assert parse_rollout(vars(row)) == row


def test_top_k_one_is_transformers_greedy_decoding(
    sample: Sample, policy: PreTrainedModel, requests: list[SamplingRequest]
) -> None:
    rows = sample(num_samples=1, top_k=1)
    for request in requests:
        prompt = torch.tensor([request.prompt_ids], device=policy.device)
        written = policy.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=60)
        expected = written[0, prompt.shape[1] :].tolist()
        assert rows[request.rollout.prompt_id, 0].completion_ids == expected


PROMPT = SamplingRequest([5, 9, 7], Rollout(prompt_ids=[5, 9, 7], prompt_id="undecided"))
Draw = Callable[..., torch.Tensor]


@pytest.fixture(scope="module")
def undecided() -> PreTrainedModel:
    """A generator that has learned nothing and could say a dozen things at any place."""
    torch.manual_seed(0)
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2, "initializer_range": 0.5}
    return GPT2LMHeadModel(GPT2Config(vocab_size=400, bos_token_id=3, eos_token_id=3, **sizes)).double().eval()


@pytest.fixture
def draw(undecided: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Draw:
    """The first tokens of so many samples."""

    def run(count: int, **options: Any) -> torch.Tensor:
        sampler = TransformersSampler(undecided, tokenizer, SamplingSettings(max_tokens=1, **options), count)
        return torch.tensor(
            [
                (row.completion_ids or [])[0]
                for row in strictly(sampler.sample([PROMPT._replace(samples=tuple(range(count)))]))
            ]
        )

    return run


def next_token(model: PreTrainedModel, temperature: float) -> torch.Tensor:
    with torch.no_grad():
        return torch.softmax(model(torch.tensor([PROMPT.prompt_ids])).logits[0, -1] / temperature, -1)


def assert_drawn_from(probabilities: torch.Tensor, tokens: torch.Tensor) -> None:
    count = len(tokens)
    shares = torch.bincount(tokens, minlength=len(probabilities)).double() / count
    assert (shares[probabilities == 0] == 0).all()
    spread = (probabilities * (1 - probabilities) / count).sqrt()
    assert ((shares - probabilities).abs() <= 4.5 * spread + 2 / count).all()


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_first_tokens_come_as_often_as_the_model_says(
    draw: Draw, undecided: PreTrainedModel, temperature: float
) -> None:
    probabilities = next_token(undecided, temperature)
    assert (probabilities > 0.01).sum() > 5
    tokens = draw(2500, temperature=temperature)
    assert_drawn_from(probabilities, tokens)
    for other in (0.6, 1.0, 1.7):
        if other != temperature:
            with pytest.raises(AssertionError):
                assert_drawn_from(next_token(undecided, other), tokens)


def nucleus(p: torch.Tensor) -> torch.Tensor:
    ordered = p.sort(descending=True).values
    return p >= ordered[int((ordered.cumsum(0) < 0.5).sum())]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 3}, lambda p: p >= p.sort(descending=True).values[2]),
        ({"min_p": 0.2}, lambda p: p >= 0.2 * p.max()),
        ({"top_p": 0.5}, nucleus),
        ({"top_k": 4, "min_p": 0.4}, lambda p: (p >= p.sort(descending=True).values[3]) & (p >= 0.4 * p.max())),
    ],
    ids=["top_k", "min_p", "top_p", "top_k and min_p"],
)
def test_filters_keep_exactly_the_tokens_they_promise(
    draw: Draw, undecided: PreTrainedModel, options: dict[str, Any], kept: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    probabilities = next_token(undecided, 1.3)
    probabilities = probabilities * kept(probabilities)
    assert 1 < (probabilities > 0).sum() < 60
    assert_drawn_from(probabilities / probabilities.sum(), draw(1500, temperature=1.3, **options))


def test_a_prompt_that_fills_the_context_or_is_empty_fails_alone(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    for ids, message in (([5] * 1024, "1024 tokens and fills the context of 1024"), ([], "no tokens")):
        request = SamplingRequest(ids, Rollout(prompt_ids=ids, prompt_id="p7"))
        (failed,) = TransformersSampler(policy, tokenizer, SamplingSettings()).sample([request])
        assert isinstance(failed, Failed)
        assert f"prompt p7 has {message}" in failed.reason
        with pytest.raises(InputError, match=message):
            list(strictly([failed]))


def test_the_context_cuts_a_completion_that_would_outgrow_it(
    sample: Sample, policy: PreTrainedModel, requests: list[SamplingRequest]
) -> None:
    ids = (requests[0].prompt_ids * 100)[:1010]
    rows = sample(chosen=[SamplingRequest(ids, Rollout(prompt_ids=ids, prompt_id="long"))], num_samples=3)
    assert max(len(row.completion_ids or []) for row in rows.values()) <= 14
    assert any(row.finish_reason == "length" for row in rows.values())


def test_a_long_neighbour_does_not_cut_a_completion_short(sample: Sample, requests: list[SamplingRequest]) -> None:
    ids = (requests[0].prompt_ids * 100)[:1015]
    neighbour = SamplingRequest(ids, Rollout(prompt_ids=ids, prompt_id="long"))
    alone = sample(chosen=requests[:2])
    assert alone.items() <= sample(chosen=[*requests[:2], neighbour]).items()


def test_rows_at_the_end_of_the_context_wait_without_harm_in_a_model_with_learned_positions(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=3, eos_token_id=3
    )
    model = GPT2LMHeadModel(config).double().eval()
    prompts = [[7] * length for length in (30, 2, 3, 4, 5, 6)]
    requests = [SamplingRequest(ids, Rollout(prompt_ids=ids, prompt_id=str(len(ids)))) for ids in prompts]
    settings = SamplingSettings(max_tokens=20)
    together = list(TransformersSampler(model, tokenizer, settings).sample(requests))
    alone = list(TransformersSampler(model, tokenizer, settings, batch_size=1).sample(requests))
    assert sorted(together, key=lambda row: row.prompt_id) == sorted(alone, key=lambda row: row.prompt_id)
    assert {row.prompt_id: len(row.completion_ids or []) for row in together}["30"] == 2


def test_the_generator_and_the_value_model_read_the_same_folder(policy: PreTrainedModel) -> None:
    backbone = PretrainedBackbone(str(POLICY_FOLDER))
    assert backbone.vocab_size == policy.config.vocab_size
    assert backbone.context_length == 1024

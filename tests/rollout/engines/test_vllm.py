"""A real vLLM engine writes the playground policy's completions; one start for the file, two for the last test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("vllm")

from transformers import PreTrainedTokenizerBase

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.reading import find_files, read_rows
from lenvm.data.rollout import Rollout, parse_rollout
from lenvm.errors import InputError
from lenvm.playground import MAX_TOKENS, POLICY_FOLDER, as_prompt, is_correct
from lenvm.playground.corpus import draw_distinct_problems
from lenvm.rollout import SamplingRequest, SamplingSettings, TransformersSampler, load_generator, sampling_requests
from lenvm.rollout.engines import Failed, Policy, VLLMEngine, strictly
from lenvm.rollout.engines.vllm_replica import VLLMReplica
from lenvm.rollout.run import rollout
from lenvm.tasks import Playground

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

Key = tuple[str, int]


@pytest.fixture(scope="module")
def replica() -> Iterator[VLLMReplica]:
    engine = VLLMEngine(dtype="float32", max_num_seqs=64)
    sampling = SamplingSettings(max_tokens=MAX_TOKENS)
    policy = Policy(generator=str(POLICY_FOLDER), revision=None, tokenizer=None, sampling=sampling)
    made = VLLMReplica(engine._arguments(policy), sampling)
    yield made
    made.close()


@pytest.fixture(scope="module")
def requests(tokenizer: PreTrainedTokenizerBase) -> list[SamplingRequest]:
    prompts = [as_prompt(problem) for problem in draw_distinct_problems(40, seed=3, held_out=True)]
    return sampling_requests(prompts, RolloutEncoder(tokenizer), range(4))


def sampled(replica: VLLMReplica, requests: list[SamplingRequest]) -> dict[Key, Rollout]:
    rows = list(strictly(replica.sample(iter(requests))))
    found = {(row.prompt_id, (row.metadata or {})["sample"]): row for row in rows}
    assert len(rows) == len(found) == sum(len(request.samples) for request in requests)
    return found


def share_equal(some: dict[Key, Rollout], others: dict[Key, Rollout]) -> float:
    return sum(others[key].completion_ids == row.completion_ids for key, row in some.items()) / len(some)


def test_completions_are_those_of_the_policy(
    replica: VLLMReplica, requests: list[SamplingRequest], tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = sampled(replica, requests)
    asked = {request.rollout.prompt_id: request.prompt_ids for request in requests}
    for (prompt_id, _), row in rows.items():
        ids = row.completion_ids or []
        assert row.prompt_ids == asked[prompt_id]
        assert (ids[-1] == tokenizer.eos_token_id) == (row.finish_reason == "stop")
        assert row.completion == tokenizer.decode(ids[:-1] if row.finish_reason == "stop" else ids)
        assert parse_rollout(vars(row)) == row
    assert sum(map(is_correct, rows.values())) > 0.9 * len(rows)
    sampler = TransformersSampler(
        load_generator(str(POLICY_FOLDER)), tokenizer, SamplingSettings(max_tokens=MAX_TOKENS)
    )
    lengths = [len(row.completion_ids or []) for row in strictly(sampler.sample(requests))]
    assert sum(len(row.completion_ids or []) for row in rows.values()) == pytest.approx(sum(lengths), rel=0.15)


def test_rows_depend_on_seed_prompt_and_sample_alone(replica: VLLMReplica, requests: list[SamplingRequest]) -> None:
    everything = sampled(replica, requests)
    some = [request._replace(samples=(1, 3)) for request in requests[::-2]]
    # kernels may round differently in other batches; see the engine's docstring
    assert share_equal(sampled(replica, some), everything) >= 0.95
    samples = [[everything[request.rollout.prompt_id, s].completion_ids for s in range(4)] for request in requests]
    assert sum(len({str(ids) for ids in four}) > 1 for four in samples) > len(requests) // 2


def test_another_seed_gives_other_rows(
    replica: VLLMReplica, requests: list[SamplingRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = sampled(replica, requests)
    monkeypatch.setattr(replica, "_sampling", SamplingSettings(max_tokens=MAX_TOKENS, seed=1))
    assert share_equal(sampled(replica, requests), everything) < 0.5


def test_the_greedy_completion_is_that_of_transformers(
    replica: VLLMReplica,
    requests: list[SamplingRequest],
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    greedy = SamplingSettings(max_tokens=MAX_TOKENS, temperature=0)
    monkeypatch.setattr(replica, "_sampling", greedy)
    one = [request._replace(samples=(0, 1)) for request in requests]
    sampler = TransformersSampler(load_generator(str(POLICY_FOLDER)), tokenizer, greedy)
    theirs = {(r.prompt_id, (r.metadata or {})["sample"]): r for r in strictly(sampler.sample(one))}
    assert share_equal(sampled(replica, one), theirs) >= 0.95


def test_the_limit_and_a_stop_text_end_completions(
    replica: VLLMReplica, requests: list[SamplingRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "_sampling", SamplingSettings(max_tokens=5))
    cut = sampled(replica, requests[:5]).values()
    assert {(row.finish_reason, len(row.completion_ids or [])) for row in cut} == {("length", 5)}
    monkeypatch.setattr(replica, "_sampling", SamplingSettings(max_tokens=MAX_TOKENS, stop=("Answer",)))
    stopped = sampled(replica, requests[:5]).values()
    assert {(row.finish_reason, (row.metadata or {}).get("stop")) for row in stopped} == {("stop", "Answer")}
    assert not any("Answer" in (row.completion or "") for row in stopped)


def test_stop_texts_end_the_same_completions_as_with_transformers(
    replica: VLLMReplica,
    requests: list[SamplingRequest],
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for stop in ("=", "swer: ", "<|end|>"):
        settings = SamplingSettings(max_tokens=40, temperature=0, stop=(stop, "never written"))
        monkeypatch.setattr(replica, "_sampling", settings)
        one = [request._replace(samples=(0,)) for request in requests]
        sampler = TransformersSampler(load_generator(str(POLICY_FOLDER)), tokenizer, settings)
        theirs = {(r.prompt_id, (r.metadata or {})["sample"]): r for r in strictly(sampler.sample(one))}
        ours = sampled(replica, one)
        assert sum(ours[key] == row for key, row in theirs.items()) >= 0.95 * len(theirs)


def test_prompts_that_vllm_does_not_take_fail_alone(replica: VLLMReplica, requests: list[SamplingRequest]) -> None:
    long = SamplingRequest([5] * 1024, Rollout(prompt_ids=[5], prompt_id="long"), (0,))
    strange = SamplingRequest([5, 10_000], Rollout(prompt_ids=[5], prompt_id="strange"), (0,))
    outcomes = list(replica.sample(iter([long, strange, requests[0]])))
    reasons = {outcome.prompt_id: outcome.reason for outcome in outcomes if isinstance(outcome, Failed)}
    assert reasons.keys() == {"long", "strange"}
    assert "the prompt has 1024 tokens and fills the context of 1024" in reasons["long"]
    assert "10000 is out of vocabulary" in reasons["strange"]
    assert len(outcomes) == 6


def test_requests_are_pulled_as_there_is_room(replica: VLLMReplica, requests: list[SamplingRequest]) -> None:
    pulled = 0

    def endless() -> Iterator[SamplingRequest]:
        nonlocal pulled
        for number in range(10_000):
            pulled += 1
            rollout = Rollout(prompt="x", prompt_id=str(number))
            yield SamplingRequest(requests[0].prompt_ids, rollout, (0,))

    assert len(list(islice(replica.sample(endless()), 40))) == 40
    assert pulled <= replica.capacity + 40
    while replica.load:
        replica.step()


def test_two_engines_beside_each_other_fill_a_folder_and_stop_with_it(tmp_path: Path) -> None:
    engine = VLLMEngine(dtype="float32", data_parallel=2, max_num_seqs=32, gpu_memory=0.15)
    output, sampling = tmp_path / "out", SamplingSettings(max_tokens=MAX_TOKENS)
    rollout(str(POLICY_FOLDER), output, Playground(), prompts=30, num_samples=4, engine=engine, sampling=sampling)
    rows = [parse_rollout(row.data or {}) for row in read_rows(find_files([output]) or [])]
    assert len({(row.prompt_id, (row.metadata or {})["sample"]) for row in rows}) == len(rows) == 120
    with pytest.raises(InputError, match="vLLM could not load"):
        rollout(str(POLICY_FOLDER), tmp_path / "no", Playground(), prompts=3, engine=VLLMEngine(max_model_len=9999))

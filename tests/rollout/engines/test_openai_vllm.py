"""The engine against a real vLLM server with the playground's policy; one server start for the whole file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase
from vllm_server import vllm_server

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Rollout, parse_rollout
from lenvm.errors import InputError
from lenvm.playground import MAX_TOKENS, POLICY_FOLDER, as_prompt
from lenvm.playground.corpus import draw_distinct_problems
from lenvm.rollout.engines.base import Failed, Outcome, Policy, SamplingRequest, sampling_requests
from lenvm.rollout.engines.openai import OpenAIEngine

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

EOS = 3
Key = tuple[str, int]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with vllm_server(POLICY_FOLDER, max_model_len=256, served_model_name="playground") as url:
        yield url


@pytest.fixture(scope="module")
def requests(tokenizer: PreTrainedTokenizerBase) -> list[SamplingRequest]:
    prompts = [as_prompt(problem) for problem in draw_distinct_problems(12, seed=3, held_out=True)]
    return sampling_requests(prompts, RolloutEncoder(tokenizer), range(4))


@pytest.fixture
def sample(
    url: str, policy: Callable[..., Policy], requests: list[SamplingRequest]
) -> Callable[..., dict[Key, Rollout]]:
    """Completions by prompt and sample; options that begin with an underscore are the engine's."""

    def run(chosen: list[SamplingRequest] = requests, **options: Any) -> dict[Key, Rollout]:
        engine = OpenAIEngine(urls=[url], **{name[1:]: value for name, value in options.items() if name[0] == "_"})
        sampling = {name: value for name, value in options.items() if name[0] != "_"}
        rows = list(engine.sample(policy(**{"max_tokens": MAX_TOKENS, **sampling}), iter(chosen)))
        found = {(row.prompt_id, row.metadata["sample"]): row for row in rows if not isinstance(row, Failed)}
        assert len(rows) == len(found) == sum(len(request.samples) for request in chosen)
        return found

    return run


def test_ids_are_the_text_and_end_with_eos_iff_it_stopped(
    sample: Callable[..., dict[Key, Rollout]], requests: list[SamplingRequest], tokenizer: PreTrainedTokenizerBase
) -> None:
    prompts = {request.rollout.prompt_id: request for request in requests}
    rows = chain(sample().values(), sample(max_tokens=12).values())
    reasons = set()
    for row in rows:
        ended = row.finish_reason == "stop"
        reasons.add(row.finish_reason)
        assert (row.completion_ids[-1] == EOS) == ended
        assert EOS not in row.completion_ids[:-1]
        assert tokenizer.decode(row.completion_ids[:-1] if ended else row.completion_ids) == row.completion
        assert ended or len(row.completion_ids) == 12
        assert row.prompt_ids == prompts[row.prompt_id].prompt_ids
        assert row.domain == prompts[row.prompt_id].rollout.domain
        parse_rollout(vars(row))
    assert reasons == {"stop", "length"}


def test_rows_do_not_depend_on_how_they_are_asked_for(
    sample: Callable[..., dict[Key, Rollout]], requests: list[SamplingRequest]
) -> None:
    together = sample(seed=5)
    assert len({row.completion for row in together.values()}) > len(requests)
    assert sample(seed=5, _samples_per_request=1, _concurrency=3) == together
    assert sample([request._replace(samples=(3, 0)) for request in requests[::-1]], seed=5).items() <= together.items()
    assert sample(seed=6) != together


def test_a_stop_text_ends_the_text_before_it_and_the_ids_with_it(
    sample: Callable[..., dict[Key, Rollout]], tokenizer: PreTrainedTokenizerBase
) -> None:
    stopped = [row for row in sample(stop=("Answer",)).values() if "stop" in row.metadata]
    assert stopped
    for row in stopped:
        assert row.metadata["stop"] == "Answer"
        assert row.finish_reason == "stop"
        assert "Answer" not in row.completion
        assert row.completion_ids[-1] != EOS
        assert tokenizer.decode(row.completion_ids).startswith(row.completion + "Answer")


def test_greedy_and_filters(sample: Callable[..., dict[Key, Rollout]]) -> None:
    greedy = sample(temperature=0)
    assert all(row.completion == greedy[prompt, 0].completion for (prompt, _), row in greedy.items())
    narrow = sample(top_k=1)
    assert {key: row.completion for key, row in narrow.items()} == {key: row.completion for key, row in greedy.items()}
    assert sample(min_p=0.2, top_p=0.9, temperature=1.3)


def test_chat_gives_the_same_rows_for_the_same_template(
    sample: Callable[..., dict[Key, Rollout]], requests: list[SamplingRequest]
) -> None:
    bare = [request._replace(prompt_ids=None) for request in requests[:6]]
    chat = sample(bare, _endpoint="chat")
    assert chat.items() <= sample().items()


def test_a_prompt_beyond_the_context_fails_with_the_servers_words(
    url: str, policy: Callable[..., Policy], requests: list[SamplingRequest]
) -> None:
    long = SamplingRequest([*(requests[0].prompt_ids or []) * 60], Rollout(prompt="long", prompt_id="long"), (0, 1))
    rows: list[Outcome] = list(OpenAIEngine(urls=[url]).sample(policy(max_tokens=20), iter([long, requests[0]])))
    (failed,) = [row for row in rows if isinstance(row, Failed)]
    assert failed.prompt_id == "long"
    assert "answered 400" in failed.reason
    assert "256" in failed.reason
    assert len(rows) == 1 + 4


def test_a_completion_is_cut_where_the_context_ends(
    sample: Callable[..., dict[Key, Rollout]], requests: list[SamplingRequest]
) -> None:
    ids = (requests[0].prompt_ids or [])[:-1] * 40
    filling = requests[0]._replace(prompt_ids=ids[:250])
    for row in sample([filling], max_tokens=1000).values():
        assert len(row.completion_ids) <= 6
        assert row.finish_reason == "stop" or len(row.completion_ids) == 6


def test_a_wrong_model_is_named_with_what_is_served(
    url: str, policy: Callable[..., Policy], requests: list[SamplingRequest]
) -> None:
    with pytest.raises(InputError, match=r"answered 404 for model other: .*it serves playground: set `model`"):
        list(OpenAIEngine(urls=[url], model="other").sample(policy(), iter(requests)))


def test_the_servers_version_is_known(url: str) -> None:
    import vllm

    versions = OpenAIEngine(urls=[url]).versions()
    assert versions["server"] == vllm.__version__
    assert set(versions) == {"openai", "server"}

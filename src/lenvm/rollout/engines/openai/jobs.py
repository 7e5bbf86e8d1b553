"""What goes over the wire for one request: consecutive samples of one prompt, as the body of a POST."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.rollout.engines.base import SamplingRequest, request_seed
from lenvm.rollout.engines.images import data_url_part, messages_with_images


@dataclass
class Asked:
    """A prompt whose samples may be spread over several jobs, of which only the first to fail speaks.

    Attributes:
        request: the prompt.
        failed: whether it is known that it cannot be completed.
    """

    request: SamplingRequest
    failed: bool = False

    @property
    def prompt_id(self) -> str:
        return self.request.rollout.prompt_id


class Job(NamedTuple):
    """One HTTP request: consecutive samples of one prompt."""

    asked: Asked
    samples: tuple[int, ...]


def jobs_of(requests: Iterable[SamplingRequest], most: int | None) -> Iterator[Job]:
    """Jobs of at most so many samples, pulled from the requests one by one."""
    for request in requests:
        asked = Asked(request)
        for samples in consecutive(request.samples, most):
            if asked.failed:
                break
            yield Job(asked, samples)


def consecutive(samples: Iterable[int], most: int | None) -> Iterator[tuple[int, ...]]:
    """Cuts numbers into runs of consecutive ones, none longer than `most`."""
    run: list[int] = []
    for sample in samples:
        if run and (sample != run[-1] + 1 or len(run) == most):
            yield tuple(run)
            run = []
        run.append(sample)
    if run:
        yield tuple(run)


@dataclass(frozen=True, kw_only=True)
class Bodies:
    """Bodies of jobs.

    Attributes:
        model: its name on the servers.
        sampling: the decoding policy.
        chat: whether every prompt goes as messages, or only those with images.
        context: tokens that prompt and completion may have together, where the servers tell.
        extra: more fields of each body; they win, and a null leaves a field out.
    """

    model: str
    sampling: SamplingSettings
    chat: bool
    context: int | None
    extra: Mapping[str, Any]

    @property
    def optional(self) -> dict[str, Any]:
        """Fields that a server may refuse without harm.

        A vLLM server takes what a request leaves out from the model's generation_config.json, and so samples from
        another policy than ours if it is not told the neutral values.
        """
        neutral = {"return_token_ids": True, "repetition_penalty": 1.0}
        if not self.sampling.top_k:
            neutral["top_k"] = -1
        if not self.sampling.min_p:
            neutral["min_p"] = 0.0
        return {name: value for name, value in neutral.items() if name not in self.extra}

    def of(self, job: Job) -> tuple[str, dict[str, Any]]:
        """Path below the base URL, and body.

        Raises:
            InputError: if messages came without token ids to the completions endpoint.
            BadRowError: if an image of the prompt cannot be used.
        """
        request, rollout, sampling = job.asked.request, job.asked.request.rollout, self.sampling
        seed = request_seed(sampling.seed, rollout.prompt_id) + job.samples[0]
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self._room(request),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        if len(job.samples) > 1:
            body["n"] = len(job.samples)
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.min_p:
            body["min_p"] = sampling.min_p
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self.chat or rollout.images:
            path = "/chat/completions"
            body["messages"] = messages_with_images(rollout.prompt or "", rollout.images, data_url_part)
        else:
            path, body["prompt"] = "/completions", self._prompt(request)
        return path, {name: value for name, value in (body | dict(self.extra)).items() if value is not None}

    def _room(self, request: SamplingRequest) -> int:
        """The token limit; no more than fits, for a server refuses more. One, where the prompt alone does not fit."""
        if self.context is None:
            return self.sampling.max_tokens
        return max(1, min(self.sampling.max_tokens, self.context - len(request.prompt_ids or ())))

    def _prompt(self, request: SamplingRequest) -> list[int] | str:
        if request.prompt_ids is not None:
            return request.prompt_ids
        if isinstance(request.rollout.prompt, str):
            return request.rollout.prompt
        raise InputError(
            "the completions endpoint needs the generator's tokenizer to turn messages into token ids; "
            "name it, or set `endpoint` to chat."
        )

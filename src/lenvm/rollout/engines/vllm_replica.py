"""One vLLM engine: requests in, completions out, a step at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from PIL import Image
from transformers import PreTrainedTokenizerBase

from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.rollout.engines.base import Failed, Outcome, SamplingRequest, request_seed
from lenvm.rollout.engines.images import messages_with_images

_AHEAD = 2
_SHARE_OF_RAM = 0.25


class VLLMReplica:
    """An engine in this process.

    Args:
        arguments: those of `vllm.LLM`.
        sampling: how completions are sampled.

    Raises:
        InputError: if vLLM cannot load the generator.
    """

    def __init__(self, arguments: dict[str, Any], sampling: SamplingSettings) -> None:
        # without a process of its own for the core there is none to outlive a kill, and no detour for every step
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        import vllm
        from vllm.exceptions import VLLMClientError
        from vllm.platforms import current_platform

        if current_platform.is_cpu():
            # seeded requests whose prompt is read in pieces crash there ("CPU Generator does not use offset", 0.32)
            # and memory for the cache is set aside at once, of a machine that has other things to do
            arguments = {"enable_chunked_prefill": False, "gpu_memory_utilization": _SHARE_OF_RAM} | arguments
        try:
            self._llm = vllm.LLM(**arguments)
        except (ValueError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:400]
            raise InputError(f"vLLM could not load {arguments['model']!r}: {reason}") from error
        self._engine = self._llm.llm_engine
        self._context: int = self._llm.model_config.max_model_len
        self._sampling, self._params = sampling, vllm.SamplingParams
        self._refusal: type[Exception] = VLLMClientError  # no ValueError
        self._tokenizer: PreTrainedTokenizerBase = self._llm.get_tokenizer()
        self._eos = self._end_tokens()
        self._open: dict[str, tuple[SamplingRequest, int]] = {}
        self._count = 0
        self.capacity: int = _AHEAD * self._engine.vllm_config.scheduler_config.max_num_seqs
        """Completions that may be under way or wait, so that no step lacks any."""

    def sample(self, requests: Iterator[SamplingRequest]) -> Iterator[Outcome]:
        """Completions of all requests as they are finished."""
        more = True
        while more or self._open:
            while more and self.load < self.capacity:
                request = next(requests, None)
                if request is None:
                    more = False
                else:
                    yield from self.add(request)
            yield from self.step()

    @property
    def load(self) -> int:
        """Completions under way."""
        return sum(count for _, count in self._open.values())

    def add(self, request: SamplingRequest) -> list[Failed]:
        """Takes a request; tells what is wrong with it, if it cannot be completed."""
        try:
            prompt, room = self._prompt(request)
            # vLLM refuses several samples of one request at temperature 0
            most = 1 if self._sampling.temperature == 0 else len(request.samples)
            for first, count in _runs(request.samples, most):
                name = f"{self._count}"
                self._count += 1
                self._engine.add_request(name, prompt, self._settings(request, first, count, room))
                self._open[name] = (request._replace(samples=tuple(range(first, first + count))), count)
        except (ValueError, TypeError, OSError, self._refusal) as error:
            return [Failed(request.rollout.prompt_id, " ".join(str(error).split())[:300])]
        return []

    def step(self) -> list[Outcome]:
        """One forward pass; the completions that it finished."""
        outcomes: list[Outcome] = []
        for output in self._engine.step() if self._open else ():
            if output.finished:
                outcomes += self._outcomes(output)
        return outcomes

    def _outcomes(self, output: Any) -> Iterator[Outcome]:
        request, _ = self._open.pop(output.request_id)
        for sample, written, text in zip(request.samples, output.outputs, self._texts(output), strict=True):
            if written.finish_reason not in ("stop", "length"):
                yield Failed(request.rollout.prompt_id, f"vLLM ended it with {written.finish_reason!r}")
                return
            noted = {"stop": written.stop_reason} if isinstance(written.stop_reason, str) else {}
            ids, reason = list(written.token_ids), written.finish_reason
            yield request.completed(sample, text, ids, reason, prompt_ids=output.prompt_token_ids, **noted)

    def close(self) -> None:
        """Shuts the engine down."""
        self._engine.engine_core.shutdown()

    def _prompt(self, request: SamplingRequest) -> tuple[Any, int]:
        """What vLLM is given, and the tokens that a completion may have."""
        limit = self._sampling.max_tokens
        if request.prompt_ids is None:
            return self._with_images(request), limit
        room = self._context - len(request.prompt_ids)
        if room < 1:
            raise ValueError(
                f"the prompt has {len(request.prompt_ids)} tokens and fills the context of {self._context}; drop or "
                "shorten it"
            )
        return {"prompt_token_ids": request.prompt_ids}, min(limit, room)

    def _with_images(self, request: SamplingRequest) -> dict[str, Any]:
        """A prompt with its images, through the model's own chat template."""
        paths = request.rollout.images or []
        messages = messages_with_images(request.rollout.prompt or "", paths, lambda _: {"type": "image"})
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        images = []
        for path in paths:
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        return {"prompt": text, "multi_modal_data": {"image": images}}

    def _settings(self, request: SamplingRequest, first: int, count: int, room: int) -> Any:
        chosen = self._sampling
        return self._params(
            n=count,
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            top_k=chosen.top_k or -1,
            min_p=chosen.min_p,
            max_tokens=room,
            stop=list(chosen.stop) or None,
            seed=request_seed(chosen.seed, request.rollout.prompt_id) + first,
            detokenize=bool(chosen.stop),
            skip_special_tokens=False,  # they are part of the text, as they are without stop texts
            output_kind=self._final_only,
        )

    @property
    def _final_only(self) -> Any:
        from vllm.sampling_params import RequestOutputKind

        return RequestOutputKind.FINAL_ONLY

    def _texts(self, output: Any) -> list[str]:
        """Texts of a request's completions, without the tokens that end them."""
        if self._sampling.stop:
            return [written.text for written in output.outputs]
        shown = [list(w.token_ids) for w in output.outputs]
        return list(self._tokenizer.batch_decode([ids[:-1] if ids and ids[-1] in self._eos else ids for ids in shown]))

    def _end_tokens(self) -> set[int]:
        config = self._llm.model_config.try_get_generation_config().get("eos_token_id")
        text_config = getattr(self._llm.model_config.hf_text_config, "eos_token_id", None)
        found: set[int] = set()
        for ids in (config, text_config, self._tokenizer.eos_token_id):
            found.update(i for i in (ids if isinstance(ids, list) else [ids]) if i is not None)
        if not found:
            raise InputError("the generator has no end-of-text token, so no completion ever ends; set `eos_token_id`.")
        return found


def _runs(numbers: tuple[int, ...], most: int) -> Iterator[tuple[int, int]]:
    """Ascending numbers as runs without a gap, none longer than `most`: the first, and how many."""
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1 or i - start == most:
            yield numbers[start], i - start
            start = i

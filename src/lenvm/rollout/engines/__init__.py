"""What runs the generator: transformers in this process, vLLM, or servers that speak OpenAI's protocol."""

from lenvm.rollout.engines.base import (
    AbstractEngine,
    Failed,
    Outcome,
    Policy,
    SamplingRequest,
    request_seed,
    sampling_requests,
    strictly,
)
from lenvm.rollout.engines.openai import OpenAIEngine
from lenvm.rollout.engines.transformers import TransformersEngine, TransformersSampler
from lenvm.rollout.engines.vllm import VLLMEngine

__all__ = [
    "AbstractEngine",
    "Failed",
    "OpenAIEngine",
    "Outcome",
    "Policy",
    "SamplingRequest",
    "TransformersEngine",
    "TransformersSampler",
    "VLLMEngine",
    "request_seed",
    "sampling_requests",
    "strictly",
]

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
from lenvm.rollout.engines.transformers import TransformersEngine, TransformersSampler

__all__ = [
    "AbstractEngine",
    "Failed",
    "Outcome",
    "Policy",
    "SamplingRequest",
    "TransformersEngine",
    "TransformersSampler",
    "request_seed",
    "sampling_requests",
    "strictly",
]

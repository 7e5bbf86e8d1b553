"""Sampling completions of a generator."""

from lenvm.decoding.generator import load_generator
from lenvm.decoding.settings import SamplingSettings
from lenvm.rollout.engines import SamplingRequest, TransformersSampler, sampling_requests, strictly

__all__ = [
    "SamplingRequest",
    "SamplingSettings",
    "TransformersSampler",
    "load_generator",
    "sampling_requests",
    "strictly",
]

"""Sampling completions of a generator."""

from lenvm.rollout.settings import SamplingSettings
from lenvm.rollout.transformers import SamplingRequest, TransformersSampler, load_generator

__all__ = ["SamplingRequest", "SamplingSettings", "TransformersSampler", "load_generator"]

"""Sampling completions of a generator."""

from lenvm.decoding.generator import load_generator
from lenvm.decoding.settings import SamplingSettings
from lenvm.rollout.transformers import SamplingRequest, TransformersSampler

__all__ = ["SamplingRequest", "SamplingSettings", "TransformersSampler", "load_generator"]

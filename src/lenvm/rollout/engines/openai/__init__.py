"""Servers that speak OpenAI's protocol: as many `vllm serve` replicas as one has, or a provider's."""

from lenvm.rollout.engines.openai.engine import OpenAIEngine

__all__ = ["OpenAIEngine"]

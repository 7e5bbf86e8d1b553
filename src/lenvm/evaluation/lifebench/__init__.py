"""LIFEBench: how well a generator, guided or not, writes to the length that it is asked for."""

from lenvm.evaluation.lifebench.command import lifebench

__all__ = ["lifebench"]

"""The denominator of a whole optimizer step.

A mean per micro-batch, averaged over micro-batches and processes, is not the mean over tokens: a token in a batch of
short completions would weigh more. So each micro-batch contributes a *sum*, and before the optimizer steps, gradients
are divided once by the sum of weights over all micro-batches of all processes. Future micro-batches need not be known.
"""

from __future__ import annotations

from collections.abc import Iterable

import lightning as L
import torch
from torch import Tensor, nn


class StepMean:
    """Turns sums over micro-batches into the weighted mean over an optimizer step."""

    def __init__(self) -> None:
        self._weight: Tensor | None = None

    def scaled_sum(self, errors: Tensor, weights: Tensor, trainer: L.Trainer) -> Tensor:
        """The micro-batch's weighted sum, scaled against the averaging that Lightning and DDP will do.

        Args:
            errors: loss of each state; (N,).
            weights: weight of each state; (N,).
            trainer: its accumulation and world size are what has to be undone.
        """
        weight = weights.sum().detach()
        self._weight = weight if self._weight is None else self._weight + weight
        return (errors * weights).sum() * (trainer.accumulate_grad_batches * trainer.world_size)

    def divide_gradients(self, parameters: Iterable[nn.Parameter], trainer: L.Trainer) -> None:
        """Divides the gradients by the step's whole weight; call it before clipping and stepping."""
        if self._weight is None:
            return
        weight = trainer.strategy.reduce(self._weight, reduce_op="sum")
        self._weight = None
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_div_(gradients, torch.as_tensor(weight).item())

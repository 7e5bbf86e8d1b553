"""Learning-rate schedules that know how many steps there will be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from lenvm.errors import InputError


class AbstractSchedule(ABC):
    """Makes a scheduler that is stepped after every optimizer step."""

    @abstractmethod
    def __call__(self, optimizer: Optimizer, num_steps: int) -> LRScheduler:
        """The scheduler for `num_steps` optimizer steps."""


@dataclass(frozen=True, kw_only=True)
class WarmupCosine(AbstractSchedule):
    """Linear warm-up to the optimizer's learning rate, then a cosine down to zero (paper appendix A).

    Args:
        warmup_fraction: share of all optimizer steps spent warming up, in [0, 1).
    """

    warmup_fraction: float = 0.05

    def __post_init__(self) -> None:
        _check_fraction(self.warmup_fraction)

    def __call__(self, optimizer: Optimizer, num_steps: int) -> LRScheduler:
        warmup_steps = round(self.warmup_fraction * num_steps)
        scheduler: LRScheduler = get_cosine_schedule_with_warmup(optimizer, warmup_steps, num_steps)
        return scheduler


@dataclass(frozen=True, kw_only=True)
class WarmupConstant(AbstractSchedule):
    """Linear warm-up to the optimizer's learning rate, which then stays.

    Args:
        warmup_fraction: share of all optimizer steps spent warming up, in [0, 1).
    """

    warmup_fraction: float = 0.05

    def __post_init__(self) -> None:
        _check_fraction(self.warmup_fraction)

    def __call__(self, optimizer: Optimizer, num_steps: int) -> LRScheduler:
        warmup_steps = round(self.warmup_fraction * num_steps)
        scheduler: LRScheduler = get_constant_schedule_with_warmup(optimizer, warmup_steps)
        return scheduler


def _check_fraction(fraction: float) -> None:
    if not 0.0 <= fraction < 1.0:
        raise InputError(f"`warmup_fraction` must lie in [0, 1), got {fraction!r}.")

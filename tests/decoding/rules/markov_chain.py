"""A language model small enough that everything about its lengths is known: tokens are states of a Markov chain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lenvm.decoding.rules import AbstractRule


@dataclass(frozen=True)
class MarkovChain:
    """Each token depends on the one before; the last token ends the text.

    Attributes:
        step: probability of each token after each token but the last; (S, S + 1).
        gamma: discount factor.
    """

    step: Tensor
    gamma: float = 0.95

    @property
    def num_states(self) -> int:
        return len(self.step)

    @property
    def horizons(self) -> Tensor:
        """E[1 - gamma**remaining] after each token; (S + 1,). From g = gamma (P g + end), g = E[gamma**remaining]."""
        inner, end = self.step[:, :-1], self.step[:, -1]
        kept = torch.linalg.solve(
            torch.eye(self.num_states, dtype=torch.float64) - self.gamma * inner, self.gamma * end
        )
        return torch.cat([1 - kept, torch.zeros(1, dtype=torch.float64)])

    def offer(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, horizons and mask of the candidates, one row per state."""
        return self.step.log(), self.horizons.expand(self.num_states, -1), self.step > 0

    def steered_step(self, rule: AbstractRule, generated: int) -> Tensor:
        """The chain's step after the rule, when so many tokens are written; (S, S + 1)."""
        written = torch.full((self.num_states,), generated)
        return rule(*self.offer(), written, self.gamma).exp()

    def lengths(self, rule: AbstractRule | None, longest: int, start: int = 0) -> Tensor:
        """The exact distribution of the completion's length: entry k is P(length = k); (longest + 1,)."""
        alive = torch.nn.functional.one_hot(torch.tensor(start), self.num_states).double()
        ended = [torch.zeros((), dtype=torch.float64)]
        for written in range(longest):
            moved = alive @ (self.step if rule is None else self.steered_step(rule, written))
            alive = moved[:-1]
            ended.append(moved[-1])
        return torch.stack(ended)

    def mean_length(self, step: Tensor, start: int = 0) -> float:
        """Mean length of a completion of a chain with this step, by linear algebra."""
        identity = torch.eye(self.num_states, dtype=torch.float64)
        return torch.linalg.solve(identity - step[:, :-1], torch.ones(self.num_states, dtype=torch.float64))[
            start
        ].item()

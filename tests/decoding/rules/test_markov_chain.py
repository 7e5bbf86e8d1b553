"""The chain that rules are judged on, against all of its short texts."""

from __future__ import annotations

import math
from itertools import pairwise, product

import pytest
import torch
from markov_chain import MarkovChain

from lenvm.decoding.rules import AbstractRule, Tilt


def texts(chain: MarkovChain, length: int, step: torch.Tensor, start: int = 0) -> list[float]:
    """Probabilities of all texts of so many tokens, the end included."""
    found = []
    for inner in product(range(chain.num_states), repeat=length - 1):
        path = [start, *inner, chain.num_states]
        found.append(math.prod(step[a, b].item() for a, b in pairwise(path)))
    return found


@pytest.mark.parametrize("rule", [None, Tilt(beta=-3.0), Tilt(beta=2.0)])
def test_lengths_are_those_of_all_texts(chain: MarkovChain, rule: AbstractRule | None) -> None:
    step = chain.step if rule is None else chain.steered_step(rule, 0)
    enumerated = [0.0] + [sum(texts(chain, length, step)) for length in range(1, 7)]
    torch.testing.assert_close(chain.lengths(rule, 6), torch.tensor(enumerated, dtype=torch.float64))


def test_horizons_are_those_of_the_length_distribution(chain: MarkovChain) -> None:
    for state in range(chain.num_states):
        lengths = chain.lengths(None, 2000, start=state)
        assert lengths.sum().item() == pytest.approx(1, abs=1e-12)
        expected = (lengths * (1 - chain.gamma ** torch.arange(2001, dtype=torch.float64))).sum()
        assert chain.horizons[state].item() == pytest.approx(expected.item(), abs=1e-12)
        mean = (lengths * torch.arange(2001)).sum().item()
        assert chain.mean_length(chain.step, state) == pytest.approx(mean, rel=1e-9)

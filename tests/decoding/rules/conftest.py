from __future__ import annotations

import pytest
import torch
from markov_chain import MarkovChain


@pytest.fixture
def chain() -> MarkovChain:
    """Four states: one that ends soon, one that goes on, one that hardly ends, and one that never ends by itself."""
    step = [
        [0.20, 0.35, 0.25, 0.10, 0.10],
        [0.30, 0.10, 0.10, 0.00, 0.50],
        [0.10, 0.05, 0.60, 0.20, 0.05],
        [0.25, 0.15, 0.40, 0.20, 0.00],
    ]
    return MarkovChain(torch.tensor(step, dtype=torch.float64))

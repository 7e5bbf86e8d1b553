"""Which prompts have plain completions that keep to a length constraint, and those completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lenvm.data.rollout import Rollout
from lenvm.errors import InputError
from lenvm.evaluation.blocks import Block
from lenvm.evaluation.methods import Plain
from lenvm.evaluation.running import Job, run_jobs
from lenvm.evaluation.setup import Setup
from lenvm.metrics import Constraint, meets


def run_probe(setup: Setup, prompts: Sequence[Rollout], constraint: Constraint, tries: int, folder: Path) -> Block:
    """Many plain completions of every prompt; another seed than the evaluation's: what is judged shall not choose.

    Args:
        setup: the evaluation's.
        prompts: its prompts.
        constraint: its constraint.
        tries: completions per prompt.
        folder: where blocks are kept.
    """
    if tries < 1:
        raise InputError(f"`only_reachable` must be a number of completions, or 0 for all prompts, got {tries}.")
    probe = replace(setup, num_samples=tries, sampling=replace(setup.sampling, seed=setup.sampling.seed + 1))
    job = Job("plain completions that show what can be reached", Plain(), None, range(len(prompts)))
    return run_jobs([job], probe, prompts, constraint, folder)[0]


def reachable(probe: Block, target: int, constraint: Constraint, tries: int) -> list[int]:
    """The prompts of which a completion that ended by itself meets the constraint; for `equal`, each side of it.

    Raises:
        InputError: if there is none.
    """
    sides: list[Constraint] = ["at_most", "at_least"] if constraint == "equal" else [constraint]
    found = sorted(set.intersection(*(set(probe.prompt[_meeting(probe, target, s)].tolist()) for s in sides)))
    if not found:
        count = len(set(probe.prompt.tolist()))
        raise InputError(
            f"of none of the {count} prompts, {tries} plain completions reach {target} tokens; "
            "ask for another target, or leave `only_reachable` out."
        )
    return found


def keeping(probe: Block, target: int, constraint: Constraint, prompts: Sequence[int], num_samples: int) -> Block:
    """Plain completions that meet the constraint, as if each had been drawn until one does.

    Args:
        probe: what `run_probe` gave.
        target: the target in tokens.
        constraint: what a length has to be to it.
        prompts: the prompts, each with at least one such completion.
        num_samples: how many per prompt; a prompt with fewer gives them again, so that prompts count alike.
    """
    met = _meeting(probe, target, constraint)
    rows = [np.resize(np.flatnonzero(met & (probe.prompt == prompt)), num_samples) for prompt in prompts]
    block = probe.take(np.concatenate(rows), probe.of_prompts(prompts).seconds)
    return block._replace(sample=np.tile(np.arange(num_samples), len(prompts)))


def _meeting(probe: Block, target: int, constraint: Constraint) -> NDArray[np.bool_]:
    return np.asarray(meets(torch.as_tensor(probe.length), target, constraint).numpy() & probe.natural)

"""Runs the methods of a decoding evaluation one after the other, with a progress bar, skipping what is finished."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.rollout import Prompt, Rollout
from lenvm.errors import InputError
from lenvm.evaluation.blocks import Block, join, read_block, slug, split, write_block
from lenvm.evaluation.methods import AbstractMethod, Task
from lenvm.evaluation.setup import Setup
from lenvm.metrics import Constraint

COMPLETIONS = 1024
"""So many completions are written for one file: minutes of work for a large model, and many batches for a small one."""


class Job(NamedTuple):
    """One method at one target.

    Attributes:
        name: names the block's file or folder, and the job in the progress bar.
        method: the method.
        target: the length asked for; None if the method does not look at it.
        prompts: numbers of the prompts to complete.
        constraint: what lengths have to be to the target; None takes that of all jobs.
    """

    name: str
    method: AbstractMethod
    target: int | None
    prompts: Sequence[int]
    constraint: Constraint | None = None


class _Part(NamedTuple):
    """What one file holds of a job.

    Attributes:
        path: the file.
        settings: what decides what is written.
        places: which of the job's prompts.
    """

    path: Path
    settings: dict[str, Any]
    places: list[int]


def run_jobs(
    jobs: Sequence[Job],
    setup: Setup,
    prompts: Sequence[Rollout],
    constraint: Constraint,
    folder: Path,
    *,
    completions: int = COMPLETIONS,
) -> list[Block]:
    """The block of every job: what is finished is read, the rest is written.

    A job is one file, `<name>.parquet`; a long one is a folder `<name>/` of files with the completions of some prompts
    each, so that a kill loses minutes. What is written is the same, since the prompt, the number of the sample and the
    seed decide it. Everything is checked before anything is written.

    Args:
        jobs: the jobs; the numbers of their prompts ascend.
        setup: what they share.
        prompts: all prompts of the evaluation.
        constraint: what lengths have to be to the target, in jobs that do not say it themselves.
        folder: where the blocks are kept.
        completions: how many are written for one file, about; finished files of another number stop with a sentence.

    Raises:
        InputError: if two jobs have one name, a job cannot be run, or a finished block was made with other settings.
    """
    names = [slug(job.name) for job in jobs]
    if len(set(names)) < len(names):
        twice = next(job.name for job, name in zip(jobs, names, strict=True) if names.count(name) > 1)
        raise InputError(f"two methods are called {twice!r} (only letters and digits count); rename one of them.")
    tasks = [Task([_prompt(prompts[i]) for i in job.prompts], job.target, job.constraint or constraint) for job in jobs]
    jobs = [job._replace(method=job.method.under(task.constraint)) for job, task in zip(jobs, tasks, strict=True)]
    common, plan = setup.described(), []
    for job, task in zip(jobs, tasks, strict=True):
        job.method.check(setup, task)
        settings = common | job.method.described(setup) | _described(task)
        plan.append(_parts(job, task, setup, settings, folder, completions))
    found = {part.path: read_block(part.path, part.settings) for parts in plan for part in parts}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    blocks = []
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task("", total=sum(len(job.prompts) for job in jobs) * setup.num_samples)
        for job, task, parts in zip(jobs, tasks, plan, strict=True):
            progress.update(bar, description=job.name)
            pieces = []
            for part in parts:
                block = found[part.path]
                if block is None:
                    block = _written(job, task, part, setup, lambda: progress.advance(bar))
                else:
                    progress.advance(bar, len(part.places) * setup.num_samples)
                pieces.append(_numbered(block, [job.prompts[place] for place in part.places]))
            blocks.append(join(pieces))
    return blocks


def _parts(job: Job, task: Task, setup: Setup, settings: dict[str, Any], folder: Path, completions: int) -> list[_Part]:
    name, everything = slug(job.name), list(range(len(task.prompts)))
    whole = _Part(folder / f"{name}.parquet", settings, everything)
    size = max(completions // (setup.num_samples * job.method.effort), 1)
    if whole.path.exists():
        return [whole]
    parts = [whole]
    if len(task.prompts) > size:
        sent = [job.method.prompt_of(prompt, task) for prompt in task.prompts]
        encoded = RolloutEncoder(setup.tokenizer, setup.prompt_format).encode_prompts(sent)
        groups = split([tuple(ids) for ids in encoded], size)
        if len(groups) > 1:
            parts = [
                _Part(folder / name / f"{number:04}.parquet", settings | {"part": f"{number} of {len(groups)}"}, places)
                for number, places in enumerate(groups, start=1)
            ]
    # of another number of prompts or samples: says what was different
    for path in sorted({*(folder / name).glob("*.parquet")} - {part.path for part in parts})[:1]:
        read_block(path, settings)
    return parts


def _written(job: Job, task: Task, part: _Part, setup: Setup, advance: Callable[[], None]) -> Block:
    method = job.method if len(part.places) == len(task.prompts) else job.method.for_prompts(part.places)
    start, completions = time.perf_counter(), []
    for completion in method.write(setup, task._replace(prompts=[task.prompts[place] for place in part.places])):
        completions.append(completion)
        advance()
    numbers = [job.prompts[place] for place in part.places]
    write_block(part.path, part.settings, completions, numbers, time.perf_counter() - start)
    block = read_block(part.path, part.settings)
    assert block is not None
    return block


def _numbered(block: Block, numbers: Sequence[int]) -> Block:
    # a block may be older than the evaluation, whose prompts had other numbers then, and the same order
    return block._replace(prompt=np.asarray(numbers)[np.unique(block.prompt, return_inverse=True)[1]])


def _prompt(rollout: Rollout) -> Prompt:
    return rollout.prompt if rollout.prompt is not None else ""


def _described(task: Task) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(task.prompts).encode()).hexdigest()[:16]
    return {
        "prompts": f"{len(task.prompts)} ({digest})",
        "target": task.target,
        "constraint": None if task.target is None else task.constraint,
    }

"""Runs the methods of a decoding evaluation one after the other, with a progress bar, skipping what is finished."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lenvm.data.rollout import Prompt, Rollout
from lenvm.errors import InputError
from lenvm.evaluation.blocks import Block, read_block, slug, write_block
from lenvm.evaluation.methods import AbstractMethod, Task
from lenvm.evaluation.setup import Setup
from lenvm.metrics import Constraint


class Job(NamedTuple):
    """One method at one target.

    Attributes:
        name: names the block's file, and the job in the progress bar.
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


def run_jobs(
    jobs: Sequence[Job], setup: Setup, prompts: Sequence[Rollout], constraint: Constraint, folder: Path
) -> list[Block]:
    """The block of every job: read where it is finished, written otherwise.

    Everything is checked before anything is written.

    Args:
        jobs: the jobs.
        setup: what they share.
        prompts: all prompts of the evaluation.
        constraint: what lengths have to be to the target, in jobs that do not say it themselves.
        folder: where the blocks are kept.

    Raises:
        InputError: if two jobs have one name, a job cannot be run, or a finished block was made with other settings.
    """
    paths = [folder / f"{slug(job.name)}.parquet" for job in jobs]
    if len(set(paths)) < len(paths):
        twice = next(job.name for job, path in zip(jobs, paths, strict=True) if paths.count(path) > 1)
        raise InputError(f"two methods are called {twice!r} (only letters and digits count); rename one of them.")
    tasks = [Task([_prompt(prompts[i]) for i in job.prompts], job.target, job.constraint or constraint) for job in jobs]
    jobs = [job._replace(method=job.method.under(task.constraint)) for job, task in zip(jobs, tasks, strict=True)]
    common, settings = setup.described(), []
    for job, task in zip(jobs, tasks, strict=True):
        job.method.check(setup, task)
        settings.append(common | job.method.described(setup) | _described(task))
    blocks = {path: read_block(path, chosen) for path, chosen in zip(paths, settings, strict=True)}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task("", total=sum(len(job.prompts) for job in jobs) * setup.num_samples)
        for job, task, path, chosen in zip(jobs, tasks, paths, settings, strict=True):
            progress.update(bar, description=job.name)
            if blocks[path] is not None:
                progress.advance(bar, len(job.prompts) * setup.num_samples)
                continue
            start, completions = time.perf_counter(), []
            for completion in job.method.write(setup, task):
                completions.append(completion)
                progress.advance(bar)
            write_block(path, chosen, completions, job.prompts, time.perf_counter() - start)
            blocks[path] = read_block(path, chosen)
    return [block for path in paths if (block := blocks[path]) is not None]


def _prompt(rollout: Rollout) -> Prompt:
    return rollout.prompt if rollout.prompt is not None else ""


def _described(task: Task) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(task.prompts).encode()).hexdigest()[:16]
    return {
        "prompts": f"{len(task.prompts)} ({digest})",
        "target": task.target,
        "constraint": None if task.target is None else task.constraint,
    }

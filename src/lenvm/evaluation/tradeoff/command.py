"""`lenvm evaluate tradeoff`: how many tokens a right answer needs, when a tilt shortens or lengthens completions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lenvm.data.encoding import PromptFormat
from lenvm.decoding.generate import GUIDED, ScorerName
from lenvm.decoding.rules import Tilt
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.blocks import Block
from lenvm.evaluation.methods import AbstractMethod, Guided, Plain
from lenvm.evaluation.overlap import check_overlap, value_models
from lenvm.evaluation.prompts import TaskPrompts, load_prompts
from lenvm.evaluation.running import Job, run_jobs
from lenvm.evaluation.setup import load_setup
from lenvm.evaluation.statistics import prompt_means
from lenvm.evaluation.tradeoff.results import Outcome, write_tradeoff
from lenvm.playground import POLICY_FOLDER
from lenvm.tasks import AbstractTask, Part

_QUANTILES = np.linspace(0.05, 1.0, 20)


def tradeoff(
    output: Path,
    *,
    generator: str = str(POLICY_FOLDER),
    value_model: str,
    task: AbstractTask | list[str] | str | None = None,
    part: Part | None = None,
    prompts: int | None = None,
    betas: tuple[float, ...] = (-20, -15, -10, -7, -5, -3, -2, -1, 1, 2, 3, 5),
    budgets: tuple[int, ...] = (),
    baselines: dict[str, AbstractMethod] | None = None,
    scorer: ScorerName = "auto",
    num_samples: int = 4,
    sampling: SamplingSettings = GUIDED,
    prompt_format: PromptFormat | None = None,
    batch_size: int = 256,
    allow_overlap: bool = False,
) -> None:
    """Sweeps `Tilt` and compares mean tokens and accuracy with truncating plain completions and with other baselines.

    Each strength is a file under `blocks/` of the output folder; run again after a kill, the evaluation goes on with
    those that are missing.

    Args:
        output: folder for everything that is written.
        generator: name on the hub or folder of a causal language model with its tokenizer.
        value_model: name on the hub or folder of the length value model.
        task: where prompts and graders come from: a class of `lenvm.tasks`, such as
            `GSM8K`; left out, the playground.
        part: which of the task's prompts; left out, `test`.
        prompts: how many prompts; left out, all that are given, or 64 problems of the playground.
        betas: strengths of the tilt; below 0 shortens. Plain sampling stands for 0.
        budgets: token limits at which plain completions are cut; one that had not ended is wrong. Left out, twenty
            quantiles of their lengths.
        baselines: other methods by name, none of which has a target.
        scorer: how candidates are scored: `tree`, `action_value`, or `auto`.
        num_samples: completions per prompt and strength.
        sampling: candidate filters, token limit and seed.
        prompt_format: `auto`, `chat` or `plain`; left out, what the value model was trained with.
        batch_size: completions written at a time.
        allow_overlap: go on although a value model was trained on some of the prompts.
    """
    strengths = sorted(set(betas) - {0})
    others = baselines or {}
    _check(strengths, budgets, others)
    setup = load_setup(generator, value_model, sampling, num_samples, prompt_format, batch_size)
    chosen = load_prompts(task, part, prompts, sampling.seed).fitting(setup, value_models(setup, others.values()))
    known = chosen.rollouts
    check_overlap(setup, others.values(), known, allow=allow_overlap)
    if ungraded := [rollout for number, rollout in enumerate(known) if not chosen.gradable(number)]:
        raise InputError(
            f"{len(ungraded)} of {len(known)} prompts have no answer that can be graded, for example prompt_id "
            f"{ungraded[0].prompt_id!r}; give a task with a grader, such as GSM8K, or a Table with one."
        )
    methods: dict[str, AbstractMethod] = {"plain": Plain()}
    methods |= {f"tilt {beta:g}": Guided(rule=Tilt(beta=beta), scorer=scorer) for beta in strengths}
    jobs = [Job(name, method, None, range(len(known))) for name, method in (methods | others).items()]
    blocks = run_jobs(jobs, setup, known, "equal", output / "blocks")
    plain, *rest = (_outcome(job.name, block, chosen) for job, block in zip(jobs, blocks, strict=True))
    tilts = [replace(o, strength=beta) for beta, o in zip(strengths, rest[: len(strengths)], strict=True)]
    tilts.insert(sum(beta < 0 for beta in strengths), replace(plain, strength=0.0))
    cuts = [_truncated(blocks[0], chosen, budget) for budget in budgets or _quantiles(blocks[0])]
    write_tradeoff(output, plain, tilts, cuts, rest[len(strengths) :])


def _check(strengths: list[float], budgets: tuple[int, ...], baselines: dict[str, AbstractMethod]) -> None:
    if not strengths:
        raise InputError("give at least one strength in `betas` that is not 0.")
    if budgets and min(budgets) < 1:
        raise InputError(f"`budgets` must be at least 1 token, got {list(budgets)}.")
    for name, method in baselines.items():
        if method.uses_target:
            raise InputError(
                f"the baseline {name!r} needs a target length, but here there is none; give its own start."
            )


def _quantiles(block: Block) -> list[int]:
    return sorted({int(np.ceil(q)) for q in np.quantile(block.length, _QUANTILES)})


def _outcome(name: str, block: Block, prompts: TaskPrompts) -> Outcome:
    return Outcome(
        name=name,
        strength=None,
        lengths=prompt_means(block.length, block.prompt),
        rights=prompt_means(_right(block, prompts), block.prompt),
        natural_end=float(block.natural.mean()),
        nll_per_token=float(block.nll.sum() / block.length.sum()),
    )


def _truncated(block: Block, prompts: TaskPrompts, budget: int) -> Outcome:
    """Plain completions cut at a budget: tokens are min(L, B), and only what had ended by then can be right."""
    within = block.natural & (block.length <= budget)
    return Outcome(
        name=f"cut at {budget}",
        strength=budget,
        lengths=prompt_means(np.minimum(block.length, budget), block.prompt),
        rights=prompt_means(_right(block, prompts) & within, block.prompt),
        natural_end=float(within.mean()),
        nll_per_token=None,
    )


def _right(block: Block, prompts: TaskPrompts) -> np.ndarray:
    facts = zip(block.prompt, block.text, block.natural, strict=True)
    return np.array([bool(prompts.graded(p, text, ended=bool(natural))) for p, text, natural in facts])

"""`lenvm evaluate tradeoff`: how many tokens a right answer needs, when a tilt shortens or lengthens completions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lenvm.data.encoding import PromptFormat
from lenvm.data.rollout import Prompt
from lenvm.decoding.generate import GUIDED, ScorerName
from lenvm.decoding.rules import Tilt
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.blocks import Block
from lenvm.evaluation.methods import AbstractMethod, Guided, Plain, Task
from lenvm.evaluation.overlap import check_overlap, training_prompts_known, value_models
from lenvm.evaluation.prompts import load_prompts
from lenvm.evaluation.running import Job, run_jobs
from lenvm.evaluation.setup import load_setup
from lenvm.evaluation.tradeoff.comparison import BUDGET, TILT, Tradeoff
from lenvm.evaluation.tradeoff.completions import completion_rows
from lenvm.evaluation.tradeoff.families import Member, members
from lenvm.evaluation.tradeoff.grading import graded
from lenvm.evaluation.tradeoff.outcomes import chosen_ks, cut, written
from lenvm.evaluation.tradeoff.results import write_tradeoff
from lenvm.playground import POLICY_FOLDER
from lenvm.tasks import AbstractTask, Part

_QUANTILES = np.linspace(0.0, 1.0, 21)


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
    baselines: dict[str, AbstractMethod | dict[str, AbstractMethod]] | None = None,
    scorer: ScorerName = "auto",
    num_samples: int = 4,
    ks: tuple[int, ...] = (),
    sampling: SamplingSettings = GUIDED,
    prompt_format: PromptFormat | None = None,
    batch_size: int = 256,
    min_room: int = 64,
    allow_overlap: bool = False,
) -> None:
    """Sweeps `Tilt` and compares mean tokens and accuracy with a hard token budget and with other baselines.

    Lengths mean the same on all sides: tokens with EOS, of completions that end at the sampler's limit at the latest.
    A budget B takes plain completions: min(L, B) tokens, wrong where L > B. (In the authors' code the tilt's side is
    not truncated and counts EOS, and the budget's side counts the text's tokens without EOS.) A completion that did
    not end by itself is wrong, whatever wrote it.

    The curves of accuracy over mean length are compared in two numbers, with intervals over prompts: the area between
    tilt and budget, which is the mean difference of their accuracies over the lengths that both reach, up to plain
    sampling's; and the accuracy at 45 % of plain sampling's tokens.

    Completions of each strength are kept under `blocks/` of the output folder, a thousand to a file, and their grades
    under `grades/`; run again after a kill, the evaluation goes on with what is missing.

    Args:
        output: folder for everything that is written.
        generator: name on the hub or folder of a causal language model with its tokenizer.
        value_model: name on the hub or folder of the length value model.
        task: where prompts and graders come from: a class of `lenvm.tasks`, such as
            `GSM8K`; left out, the playground.
        part: which of the task's prompts; left out, `test`.
        prompts: how many prompts; left out, all that are given, or 64 problems of the playground.
        betas: strengths of the tilt; below 0 shortens. Plain sampling stands for 0.
        budgets: token limits at which plain completions are cut. Left out, 21 quantiles of their lengths.
        baselines: other methods by name, none of which has a target; or by name of a family of them the methods by
            strength, which are a curve: `{length penalty: {"1.01": {class_path: ...}, "1.02": {class_path: ...}}}`.
        scorer: how candidates are scored: `tree`, `action_value`, or `auto`.
        num_samples: completions per prompt and strength.
        ks: the k of Pass@k, beside 1; left out, the powers of two up to `num_samples`.
        sampling: candidate filters, token limit and seed.
        prompt_format: `auto`, `chat` or `plain`; left out, what the value model was trained with.
        batch_size: completions written at a time.
        min_room: prompts are left out, and counted, that leave less than so many tokens of a context, or than the
            token limit if that is smaller; in the longest form in which a baseline sends them.
        allow_overlap: go on although a value model was trained on some of the prompts.
    """
    betas = tuple(sorted(set(betas) - {0}))
    _check(betas, budgets, min_room)
    others, tried = members(baselines or {}), chosen_ks(ks, num_samples)
    used = [member.method for member in others]
    setup = load_setup(generator, value_model, sampling, num_samples, prompt_format, batch_size)
    loaded = load_prompts(task, part, prompts, sampling.seed)

    def sent(number: int) -> list[Prompt]:
        prompt = loaded.rollouts[number].prompt or ""
        return [method.prompt_of(prompt, Task([prompt], None, "equal")) for method in used]

    room = min(min_room, sampling.max_tokens)
    chosen = loaded.fitting(setup, value_models(setup, used), room, sent)
    known = chosen.rollouts
    check_overlap(setup, used, known, allow=allow_overlap)
    facts = {
        "task": repr(chosen.task),
        "too_long_prompts": chosen.too_long,
        "training_prompts_known": training_prompts_known(setup, used),
        "completions_per_prompt": num_samples,
    }
    if ungraded := [rollout for number, rollout in enumerate(known) if not chosen.gradable(number)]:
        raise InputError(
            f"{len(ungraded)} of {len(known)} prompts have no answer that can be graded, for example prompt_id "
            f"{ungraded[0].prompt_id!r}; give a task with a grader, such as GSM8K, or a Table with one."
        )
    run = [Member("plain", "", Plain())]
    run += [Member(TILT, f"{beta:g}", Guided(rule=Tilt(beta=beta), scorer=scorer)) for beta in betas]
    run += others
    jobs = [Job(member.name, member.method, None, range(len(known))) for member in run]
    blocks = run_jobs(jobs, setup, known, "equal", output / "blocks")
    rights = graded({job.name: block for job, block in zip(jobs, blocks, strict=True)}, chosen, output / "grades")
    outcomes = [
        written(member.family, member.strength, block, right, tried)
        for member, block, right in zip(run, blocks, rights, strict=True)
    ]
    plain, tilts, rest = outcomes[0], outcomes[1 : 1 + len(betas)], outcomes[1 + len(betas) :]
    limits = sorted(set(budgets)) or _quantiles(blocks[0])
    found = Tradeoff(
        plain=plain,
        tilts=dict(zip(betas, tilts, strict=True)),
        budgets={budget: cut(BUDGET, budget, blocks[0], rights[0], tried) for budget in limits},
        baselines={name: [outcome for outcome in rest if outcome.method == name] for name in baselines or {}},
    )
    rows = completion_rows(
        ((m.family, m.strength, block, right) for m, block, right in zip(run, blocks, rights, strict=True)), chosen
    )
    write_tradeoff(output, found, rows, facts)


def _check(betas: tuple[float, ...], budgets: tuple[int, ...], min_room: int) -> None:
    if not betas:
        raise InputError("give at least one strength in `betas` that is not 0.")
    if budgets and min(budgets) < 1:
        raise InputError(f"`budgets` must be at least 1 token, got {list(budgets)}.")
    if min_room < 1:
        raise InputError(f"`min_room` must be at least 1 token, got {min_room}.")


def _quantiles(block: Block) -> list[int]:
    return sorted({int(np.ceil(q)) for q in np.quantile(block.length, _QUANTILES)})

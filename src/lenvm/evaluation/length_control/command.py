"""`lenvm evaluate length_control`: how near to a wanted length each method comes, and what that does to the text."""

from __future__ import annotations

from pathlib import Path

from lenvm.data.encoding import PromptFormat
from lenvm.data.rollout import Prompt
from lenvm.decoding.generate import GUIDED
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.length_control.measures import Cell, Role
from lenvm.evaluation.length_control.reachable import keeping, reachable, run_probe
from lenvm.evaluation.length_control.results import write_results
from lenvm.evaluation.methods import AbstractMethod, Plain, Task
from lenvm.evaluation.overlap import check_overlap, training_prompts_known, value_models
from lenvm.evaluation.prompts import load_prompts
from lenvm.evaluation.running import Job, run_jobs
from lenvm.evaluation.setup import load_setup
from lenvm.metrics import Constraint
from lenvm.playground import POLICY_FOLDER
from lenvm.tasks import AbstractTask, Part


def length_control(
    methods: dict[str, AbstractMethod],
    output: Path,
    *,
    generator: str = str(POLICY_FOLDER),
    value_model: str | None = None,
    task: AbstractTask | list[str] | str | None = None,
    part: Part | None = None,
    prompts: int | None = None,
    targets: tuple[int, ...] = (64,),
    constraint: Constraint = "equal",
    only_reachable: int = 0,
    num_samples: int = 4,
    sampling: SamplingSettings = GUIDED,
    prompt_format: PromptFormat | None = None,
    batch_size: int = 256,
    allow_overlap: bool = False,
) -> None:
    """Writes completions of given lengths with several methods, and compares length, fluency, variety and answers.

    Completions of each method and target are kept under `blocks/` of the output folder, a thousand to a file. Run again
    after a kill, the evaluation goes on with what is missing.

    Args:
        methods: the methods by name, such as `{plain: {class_path: lenvm.evaluation.methods.Plain}}`.
        output: folder for everything that is written.
        generator: name on the hub or folder of a causal language model with its tokenizer.
        value_model: name on the hub or folder of the length value model of guided methods.
        task: where prompts come from: a class of `lenvm.tasks`, a file of prompts, or a list of texts; left out, the
            playground.
        part: which of the task's prompts; left out, `test`, and all of a file or list.
        prompts: how many prompts; left out, all that are given, or 64 problems of the playground.
        targets: lengths to ask for, in tokens, EOS included.
        constraint: what lengths have to be to the target: `equal`, `at_most` or `at_least`.
        only_reachable: plain completions to sample first per prompt; only prompts are kept of which one of these meets
            the constraint (for `equal`: whose completions lie on both sides of the target, or on it), and ends by
            itself. For a one-sided constraint, those that meet it are judged too: they are what guidance can hope for.
            0 keeps all prompts.
        num_samples: completions per prompt, method and target.
        sampling: candidate filters, token limit and seed of all methods.
        prompt_format: `auto`, `chat` or `plain`; left out, what the value model was trained with.
        batch_size: completions written at a time.
        allow_overlap: go on although a value model was trained on some of the prompts.
    """
    if not methods or not targets or min(targets) < 1 or len(set(targets)) < len(targets):
        raise InputError(f"give at least one method and different targets of 1 or more, got {list(targets)}.")
    methods = {name: method.under(constraint) for name, method in methods.items()}
    setup = load_setup(generator, value_model, sampling, num_samples, prompt_format, batch_size)
    loaded = load_prompts(task, part, prompts, sampling.seed)

    def sent(number: int) -> list[Prompt]:
        prompt = loaded.rollouts[number].prompt or ""
        return [m.prompt_of(prompt, Task([prompt], n, constraint)) for m in methods.values() for n in targets]

    chosen = loaded.fitting(setup, value_models(setup, methods.values()), sent=sent)
    known = chosen.rollouts
    check_overlap(setup, methods.values(), known, allow=allow_overlap)
    known_to = training_prompts_known(setup, methods.values())
    folder = output / "blocks"
    kept, cells = {target: list(range(len(known))) for target in targets}, []
    if only_reachable:
        probe = run_probe(setup, known, constraint, only_reachable, folder)
        kept = {target: reachable(probe, target, constraint, only_reachable) for target in targets}
        if constraint != "equal":
            shown = f"plain that keeps to it (of {only_reachable})"
            cells = [
                Cell(shown, "keeping", target, keeping(probe, target, constraint, numbers, num_samples))
                for target, numbers in kept.items()
            ]
    blocks = iter(run_jobs(_jobs(methods, kept), setup, known, constraint, folder))
    for name, method in methods.items():
        role: Role = "plain" if isinstance(method, Plain) else "judged"
        shared = None if method.uses_target else next(blocks)
        for target, numbers in kept.items():
            block = next(blocks) if shared is None else shared.of_prompts(numbers)
            cells.append(Cell(name, role, target, block))
    write_results(output, cells, chosen, constraint, training_prompts_known=known_to)


def _jobs(methods: dict[str, AbstractMethod], kept: dict[int, list[int]]) -> list[Job]:
    everywhere = sorted(set().union(*kept.values()))
    jobs = []
    for name, method in methods.items():
        if method.uses_target:
            jobs += [Job(f"{name}, {target} tokens", method, target, numbers) for target, numbers in kept.items()]
        else:
            jobs.append(Job(name, method, None, everywhere))
    return jobs

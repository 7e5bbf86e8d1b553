"""`lenvm evaluate lifebench`: Equal To, At Most and At Least at many lengths (section 4.2, Table 2, appendix B)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lenvm.data.encoding import PromptFormat
from lenvm.decoding.generate import GUIDED
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.lifebench.items import choose_items, load_items, originals, requirement
from lenvm.evaluation.lifebench.jobs import default_methods, run_methods
from lenvm.evaluation.lifebench.measures import judge
from lenvm.evaluation.lifebench.results import write_results
from lenvm.evaluation.methods import AbstractMethod
from lenvm.evaluation.overlap import check_overlap, training_prompts_known, value_models
from lenvm.evaluation.setup import load_setup
from lenvm.playground import POLICY_FOLDER
from lenvm.tasks import AbstractTask, Part

SAMPLING = replace(GUIDED, max_tokens=2048)
"""The paper's candidates, and twice the benchmark's largest target."""


def lifebench(
    output: Path,
    *,
    methods: dict[str, AbstractMethod] | None = None,
    generator: str = str(POLICY_FOLDER),
    value_model: str | None = None,
    task: AbstractTask | list[str] | str | None = None,
    part: Part | None = None,
    items: int | None = None,
    tokens_per_unit: dict[str, float] | None = None,
    num_samples: int = 1,
    sampling: SamplingSettings = SAMPLING,
    prompt_format: PromptFormat | None = None,
    batch_size: int = 256,
    allow_overlap: bool = False,
) -> None:
    """Asks for lengths, and scores how well each method keeps to them: by constraint, target, language and category.

    The score is LIFEBench's (Eq. 17 and 18). With the unit `tokens`, EOS included, as in the paper, this is not the
    word count of the public leaderboard. Nothing is dropped from the means; the authors drop answers of length 0 and 1.

    Completions of each method, constraint and target are kept under `blocks/` of the output folder, a thousand to a
    file. Run again after a kill, the evaluation goes on with what is missing.

    Args:
        output: folder for everything that is written.
        methods: the methods by name; left out, plain sampling, the published rules (paper section 4.2), and ours. A
            `ByConstraint` is a method for each constraint under one name.
        generator: name on the hub or folder of a causal language model with its tokenizer.
        value_model: name on the hub or folder of the length value model of guided methods.
        task: the prompts, each of which asks for a length: `LIFEBench`, which has targets, constraints and unit, or
            `LengthRequirement` around any other task; left out, LIFEBench of the hub, in tokens, 32 to 1024.
        part: which of the task's prompts; left out, `test`.
        items: how many items of the benchmark, the same for every constraint and target; languages take turns. Left
            out, all that leave room for the largest target and a quarter more, or 64 problems of the playground.
        tokens_per_unit: tokens per word or character by language, such as `{en: 1.3, cn: 1.5}`, where lengths are asked
            for in these: it turns targets into the tokens that methods steer. A run of `Plain` measures it.
        num_samples: completions per prompt and method; the benchmark takes one.
        sampling: candidate filters, token limit and seed of all methods; the limit is at least twice the largest
            target, so that a completion that is cut does not look right.
        prompt_format: `auto`, `chat` or `plain`; left out, what the value model was trained with.
        batch_size: completions written at a time.
        allow_overlap: go on although a value model was trained on some of the prompts.
    """
    methods = default_methods() if methods is None else methods
    ratios = tokens_per_unit or {}
    if not methods:
        raise InputError("give at least one method in `methods`, or leave it out for the default ones.")
    if items is not None and items < 1:
        raise InputError(f"`items` must be at least 1, got {items}.")
    if any(ratio <= 0 for ratio in ratios.values()):
        raise InputError(f"`tokens_per_unit` must be positive numbers by language, got {ratios}.")
    loaded = load_items(task, part, items, sampling.seed)
    asked = [requirement(rollout) for rollout in loaded.rollouts]
    parts = [
        method.under(constraint) for method in methods.values() for constraint in {one.constraint for one in asked}
    ]
    setup = load_setup(generator, value_model, sampling, num_samples, prompt_format, batch_size)
    prompts = choose_items(loaded, items, setup, value_models(setup, parts), ratios, list(methods.values()))
    for known in (originals(prompts.rollouts), prompts.rollouts):
        check_overlap(setup, parts, known, allow=allow_overlap)
    known_to = training_prompts_known(setup, parts)
    asked = [requirement(rollout) for rollout in prompts.rollouts]
    cells = run_methods(methods, setup, prompts, asked, ratios, output / "blocks")
    write_results(output, judge(cells, prompts, asked), methods, prompts, ratios, training_prompts_known=known_to)

"""`lenvm evaluate prompt_boundary`: how long will a completion be, before its first token (paper section 4.4)?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from transformers.utils import logging as transformers_logging

from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.by_position import VALUE_MODEL
from lenvm.evaluation.prompt_boundary.material import (
    HeldOutPrompts,
    Material,
    Reading,
    material_of_rollouts,
    material_of_run,
)
from lenvm.evaluation.prompt_boundary.predictors import RemainingLengthRegressor
from lenvm.evaluation.prompt_boundary.regressor import RegressorFit
from lenvm.evaluation.prompt_boundary.results import Circumstances, write_prompt_boundary
from lenvm.evaluation.prompt_boundary.rivals import all_rivals, teach
from lenvm.evaluation.prompt_boundary.states import score_states
from lenvm.playground import MAX_TOKENS, POLICY_FOLDER
from lenvm.tasks import AbstractTask, Part

_NUM_SAMPLES, _SPLIT = 64, "test"
_SAMPLING = SamplingSettings(max_tokens=MAX_TOKENS)


def prompt_boundary(
    run: Path | None = None,
    *,
    value_model: str | None = None,
    generator: str | None = None,
    task: AbstractTask | list[str] | str | None = None,
    part: Part | None = None,
    prompts: int | None = None,
    num_samples: int | None = None,
    sampling: SamplingSettings = _SAMPLING,
    rollouts: Path | None = None,
    train_rollouts: Path | None = None,
    lengths_field: str | None = None,
    split: str = _SPLIT,
    encoder: str | None = None,
    regressor: str = "auto",
    regressor_fit: RegressorFit = RegressorFit(),
    output: Path | None = None,
    max_cut_share: float = 0.05,
    max_train_prompts: int = 20_000,
    batch_size: int = 64,
    allow_overlap: bool = False,
) -> None:
    """Compares predicted lengths of held-out prompts with those of many completions, beside predictors to beat.

    Give either `run`, a finished fit with held-out prompts, or `value_model`. Also measured: the error of the remaining
    length while completions are written, bias and variance per length, and the calibration of the value. Completions
    that are sampled, a regressor whose training ended, and finished parts of the scoring are kept in the output folder;
    run again after a kill, the evaluation goes on with what is missing, the regressor's training from its start.

    Args:
        run: folder of a finished `lenvm fit`: its config.yaml says which prompts were held out.
        value_model: name on the hub or folder of the length value model.
        generator: name on the hub or folder of the language model that writes, and whose hidden states are read; left
            out, the playground's policy, or with `run` none.
        task: where held-out prompts come from: a class of `lenvm.tasks`, such as `GSM8K`; left out, the playground.
        part: which of the task's prompts; left out, `test`, and all of given files and texts.
        prompts: how many prompts; left out, all, or 150 of a task that never ends.
        num_samples: completions per held-out prompt: left out, 64 are sampled. Of `rollouts` or a `run` it is how many
            every prompt should have; left out, as many as any has. Prompts with fewer finished ones are counted.
        sampling: how they are sampled.
        rollouts: file or folder of completions of held-out prompts; left out, they are sampled, under `rollouts/` of
            the output folder.
        train_rollouts: file or folder of completions of other prompts, that predictors learn from; left out, there is
            none to beat. With `run` they learn from its training prompts.
        lengths_field: key of `metadata` that lists the lengths of all completions of a prompt, EOS counted, where the
            rows hold only some of them.
        split: with `run`: `test` or `val`, which held-out prompts to judge on.
        encoder: name on the hub or folder of an encoder of texts, for the regression on prompt embeddings; left out,
            the mean of the generator's hidden states is the embedding.
        regressor: folder of a trained model whose target is not discounted; `auto` trains one from the generator's
            weights on `train_rollouts`, `none` does without.
        regressor_fit: how one is trained.
        output: folder for the results; left out, `prompt_boundary` in the run's folder or in `results`.
        max_cut_share: held-out prompts of which a larger share was cut by the token limit are left out, and counted:
            their finished completions are the short ones.
        max_train_prompts: how many training prompts the predictors learn from at most, chosen by a hash of their ids.
        batch_size: prompts or completions per forward pass.
        allow_overlap: go on although a value model was trained on some of the held-out prompts.
    """
    new = {"task": task, "part": part, "prompts": prompts, "sampling": None if sampling == _SAMPLING else sampling}
    _check(run, value_model, split, new, {"rollouts": rollouts, "train_rollouts": train_rollouts})
    counts = {"num_samples": num_samples, "batch_size": batch_size, "prompts": prompts}
    for name, count in {**counts, "max_train_prompts": max_train_prompts}.items():
        if count is not None and count < 1:
            raise InputError(f"`{name}` must be at least 1, got {count}.")
    if not 0.0 <= max_cut_share <= 1.0:
        raise InputError(f"`max_cut_share` must lie in [0, 1], got {max_cut_share}; 1 keeps all prompts.")
    transformers_logging.disable_progress_bar()  # models load in a moment, beside what follows
    output = output or (Path("results") if run is None else run) / "prompt_boundary"
    reading = Reading(lengths_field=lengths_field, max_cut_share=max_cut_share, max_train_prompts=max_train_prompts)
    material: Material
    if run is not None:
        material = material_of_run(run, split, reading)
    else:
        generator = generator or str(POLICY_FOLDER)
        wanted = HeldOutPrompts(
            task=task, part=part, prompts=prompts, num_samples=num_samples or _NUM_SAMPLES, sampling=sampling
        )
        material = material_of_rollouts(
            str(value_model), generator, wanted, rollouts, train_rollouts, output / "rollouts", reading
        )
    if not allow_overlap:
        material.check_training_prompts(material.name, material.model)
    rivals = all_rivals(
        material,
        generator=generator,
        encoder=encoder,
        regressor=regressor,
        regressor_fit=regressor_fit,
        output=output / "regressor",
        batch_size=batch_size,
        allow_overlap=allow_overlap,
    )
    model, held_out = material.model, material.held_out
    predictions = {VALUE_MODEL: model.predict_length(held_out.table.token_ids, batch_size=batch_size).double().numpy()}
    readers = {VALUE_MODEL: model}
    teach(rivals, material.train)
    training = None
    for rival in rivals:
        predictions[rival.name] = rival.predict(held_out.table)
        if isinstance(rival, RemainingLengthRegressor):
            readers[rival.name], training = rival.model, rival.training
    scores = {
        name: score_states(reader, held_out, output / "scores", name=name, batch_size=batch_size)
        for name, reader in readers.items()
    }
    if num_samples is None:
        sampled = run is None and rollouts is None
        num_samples = _NUM_SAMPLES if sampled else max(map(len, held_out.table.completion_lengths))
    circumstances = Circumstances(
        value_model=material.name,
        generator=material.sampled_by["generator"] or generator or model.generator,
        sampling=material.sampled_by["sampling"],
        num_samples=num_samples,
        max_cut_share=max_cut_share,
        training_prompts_known=model.training_prompts is not None,
        train=material.train,
        regressor=training,
        gamma=model.gamma,
    )
    write_prompt_boundary(output, held_out, predictions, scores, circumstances)


def _check(
    run: Path | None, value_model: str | None, split: str, new: Mapping[str, object], read: Mapping[str, object]
) -> None:
    """Refuses options that would do nothing: those of `new` completions where there are some."""
    if (run is None) == (value_model is None):
        raise InputError("give either `--run`, the folder of a finished `lenvm fit`, or `--value_model`.")
    if run is not None and (given := [name for name, value in {**read, **new}.items() if value is not None]):
        raise InputError(f"`--{given[0]}` goes with `--value_model`; with `--run`, prompts are those of the run.")
    if read["rollouts"] is not None and (given := [name for name, value in new.items() if value is not None]):
        raise InputError(
            f"`--{given[0]}` says what is to be sampled, but `--rollouts` gives completions; leave one of the two out."
        )
    if run is None and split != _SPLIT:
        raise InputError(f"`--split` goes with `--run`, got {split!r}; leave it out, or give `--part`.")

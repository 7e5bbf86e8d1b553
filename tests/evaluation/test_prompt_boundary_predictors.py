from __future__ import annotations

import functools
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from lenvm.backbones.pretrained import load_transformer
from lenvm.data.batching import RowFacts
from lenvm.data.encoding import RolloutEncoder
from lenvm.data.prompt_set import PromptSet
from lenvm.data.rollout import Rollout
from lenvm.data.writing import write_rollouts
from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary.completions import Completions, gather, read_rollouts
from lenvm.evaluation.prompt_boundary.measures import errors
from lenvm.evaluation.prompt_boundary.predictors import (
    AbstractLengthPredictor,
    BestConstant,
    GeneratorStates,
    HiddenStateProbe,
    MeanState,
    PromptEmbeddingRegression,
    PromptLengthLine,
    PromptTable,
    RemainingLengthRegressor,
    TextEncoder,
)
from lenvm.evaluation.prompt_boundary.predictors.hidden_state import pooled_states
from lenvm.evaluation.prompt_boundary.regressor import RegressorFit, load_regressor, train_regressor
from lenvm.evaluation.prompt_boundary.results import Circumstances
from lenvm.playground import POLICY_FOLDER, as_prompt
from lenvm.playground.corpus import draw_distinct_problems
from lenvm.targets import DiscountedReturn, LogLength

POLICY = str(POLICY_FOLDER)
LENGTH_OF_DOMAIN = {"math": 10.0, "code": 100.0, "instruction": 30.0}


@functools.cache
def problems(tokenizer: PreTrainedTokenizerBase, held_out: bool) -> PromptTable:
    """Playground problems whose answers are said to be as long as their domain asks for."""
    drawn = [as_prompt(p) for p in draw_distinct_problems(150, seed=0, held_out=held_out)]
    rng = np.random.default_rng(int(held_out))
    lengths = np.array([LENGTH_OF_DOMAIN[p.domain or ""] for p in drawn]) * np.exp(0.05 * rng.normal(size=len(drawn)))
    encoder = RolloutEncoder(tokenizer)
    return PromptTable(
        prompt_ids=[p.prompt_id for p in drawn],
        texts=[encoder.prompt_text(p.prompt or "")[0] for p in drawn],
        token_ids=encoder.encode_prompts([p.prompt or "" for p in drawn]),
        lengths=lengths,
        completion_lengths=[np.array([round(n)]) for n in lengths],
        domains=[p.domain or "" for p in drawn],
    )


def test_states_are_those_of_each_prompt_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    model = load_transformer(POLICY, None, "float32", "sdpa").eval()
    prompts = problems(tokenizer, False).token_ids[:7]
    assert len({len(ids) for ids in prompts}) > 2  # so that there is padding
    read = pooled_states(model, prompts, batch_size=4)
    assert read.last.dtype == read.mean.dtype == np.float32
    for i, ids in enumerate(prompts):
        with torch.inference_mode():
            alone = model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy()
        np.testing.assert_allclose(read.last[i], alone[-1], atol=1e-4)
        np.testing.assert_allclose(read.mean[i], alone.mean(0), atol=1e-4)


def test_what_reads_the_generator_learns_what_a_prompts_size_does_not_tell(tokenizer: PreTrainedTokenizerBase) -> None:
    train, held_out = problems(tokenizer, False), problems(tokenizer, True)
    states = GeneratorStates(POLICY)
    rivals: list[AbstractLengthPredictor] = [
        BestConstant(),
        PromptLengthLine(),
        HiddenStateProbe(states),
        PromptEmbeddingRegression(MeanState(states)),
        PromptEmbeddingRegression(TextEncoder(POLICY)),
    ]
    mre = []
    for rival in rivals:
        rival.fit(train)
        mre.append(errors(rival.predict(held_out), held_out.lengths)["mre"])
    constant, line, probe, mean_state, encoder = mre
    for better in (probe, mean_state, encoder):
        assert better < 0.25
        assert better < 0.5 * min(constant, line)
    # the encoder's own tokens of the prompt's text are the very prompt here
    assert encoder == pytest.approx(mean_state, rel=1e-3)


def test_shuffled_lengths_teach_a_probe_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    train, held_out = problems(tokenizer, False), problems(tokenizer, True)
    order = np.random.default_rng(0).permutation(len(train.lengths))
    shuffled = PromptTable(**{**vars(train), "lengths": train.lengths[order]})
    probe = HiddenStateProbe(GeneratorStates(POLICY))
    probe.fit(shuffled)
    assert errors(probe.predict(held_out), held_out.lengths)["mre"] > 0.5


def test_a_prompt_beyond_the_generators_context_is_refused() -> None:
    model = load_transformer(POLICY, None, "float32", "sdpa").eval()
    with pytest.raises(InputError, match="a prompt has 1025 tokens, more than the 1024"):
        pooled_states(model, [[5] * 1025], batch_size=1)


def two_kinds(path: Path, tokenizer: PreTrainedTokenizerBase) -> Completions:
    """Completions of 4 tokens after one kind of prompt, of 16 after the other; written to a file, too."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(240):
        word, length = ((20, 4), (40, 16))[i % 2]
        fill = rng.integers(50, 600, length - 1).tolist()
        prompt = [word, int(rng.integers(50, 600)), word]
        rows.append(Rollout(prompt_id=f"p{i}", prompt_ids=prompt, completion_ids=[*fill, tokenizer.eos_token_id]))
    write_rollouts(rows, path)
    return gather(read_rollouts(path, "rollouts"), RolloutEncoder(tokenizer), 0.9)


def test_the_regressor_learns_lengths_and_is_trained_once(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    path = tmp_path / "rows.parquet"
    train = two_kinds(path, tokenizer)
    fit = RegressorFit(target=LogLength(), epochs=6, completions_per_step=8, head_lr=3e-3)
    arguments = (tmp_path / "regressor", POLICY, path, train, tokenizer, "auto", fit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing that a user could not do anything about
        regressor = RemainingLengthRegressor(lambda: train_regressor(*arguments), fit.described(train.finished))
        assert regressor.model.target == LogLength()
    asked = {20: [20, 300, 20], 40: [40, 301, 40]}
    table = PromptTable(**{**vars(train.table.rows(np.arange(2))), "token_ids": list(asked.values())})
    assert regressor.predict(table) == pytest.approx([4, 16], rel=0.3)
    assert regressor.model.target.reference_gamma is None
    assert len(train.table.prompt_ids) == 240
    weights = next((tmp_path / "regressor").glob("*/model/model.safetensors"))
    written = weights.stat().st_mtime_ns
    assert load_regressor(str(weights.parent)).training_prompts == train_regressor(*arguments).training_prompts
    assert weights.stat().st_mtime_ns == written
    assert not list((tmp_path / "regressor").glob("*/cache"))


def test_a_discounted_model_is_no_plain_regressor(value_model: str) -> None:
    with pytest.raises(InputError, match="regresses DiscountedReturn, which is discounted"):
        load_regressor(value_model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "must be positive"),
        ({"completions_per_step": 40}, "at most 16 or a multiple of it, got 40; give 32 or 48"),
        ({"target": DiscountedReturn()}, "DiscountedReturn is discounted"),
        ({"target": DiscountedReturn(gamma=0.9)}, "DiscountedReturn is discounted"),
    ],
)
def test_settings_of_the_regressor_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RegressorFit(**settings)


def test_what_a_fit_comes_to_is_said_in_whole_batches() -> None:
    assert RegressorFit(max_completions=100).described(1000)["completions_per_epoch"] == 96
    assert RegressorFit(max_completions=100, completions_per_step=4).described(1000)["completions_per_epoch"] == 100
    assert RegressorFit(max_completions=2000).described(1000)["completions_per_epoch"] == 1000
    assert RegressorFit().described(1000)["completions_per_epoch"] == 1000


def test_the_table_says_how_the_regressor_was_trained() -> None:
    said = Circumstances(
        value_model="model",
        generator=None,
        sampling=None,
        num_samples=1,
        max_cut_share=0.0,
        training_prompts_known=True,
        train=None,
        regressor=RegressorFit(epochs=1, max_completions=9000, lr=2e-4).described(24_000),
        gamma=0.9,
    )
    note = said.note() or ""
    assert "(LogLength) was trained for 1 epoch(s) of 8,992 of 24,000 training completions, 64 per step" in note
    assert "learning rate 0.0002" in note
    assert replace(said, regressor=None).note() is None


@pytest.mark.parametrize("per_step", [4, 16, 32, 96])
def test_a_step_of_the_regressor_sees_completions_of_any_length(per_step: int) -> None:
    fit, lengths = RegressorFit(completions_per_step=per_step), np.random.default_rng(0).integers(1, 500, 384)
    rows = RowFacts(length=lengths, prompt=np.arange(384))
    batches = fit.batching.batches(rows, fit.rows_at_once, np.random.default_rng(1))
    steps = np.concatenate(batches).reshape(-1, per_step)
    shuffled = np.random.default_rng(1).permutation(384).reshape(-1, per_step)
    np.testing.assert_array_equal(np.sort(steps), np.sort(shuffled))


def test_the_regressor_learns_from_chosen_prompts_alone(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    path = tmp_path / "rows.parquet"
    two_kinds(path, tokenizer)
    train = gather(read_rollouts(path, "rollouts"), RolloutEncoder(tokenizer), 0.9, max_prompts=20)
    fit = RegressorFit(epochs=1, completions_per_step=8)
    arguments: Any = (tmp_path / "regressor", POLICY, path, train, tokenizer, "auto", fit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = train_regressor(*arguments)
    assert model.training_prompts == PromptSet.of(train.table.prompt_ids).to_text()
    assert fit.described(train.finished)["training_completions"] == len(train.table.prompt_ids) == 20

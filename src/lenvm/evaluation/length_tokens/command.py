"""`lenvm evaluate length_tokens`: which tokens make an answer longer, and which shorter (paper section 4.6)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.prompt_set import PromptSet
from lenvm.data.reading import find_files
from lenvm.data.store import check_shards
from lenvm.data.tokenizer import fingerprint, load_tokenizer
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.evaluation.length_tokens.parts import ShiftScoring, score_in_parts
from lenvm.evaluation.length_tokens.results import write_length_tokens
from lenvm.evaluation.setup import weights_digest
from lenvm.models import LengthValueModel
from lenvm.models.value_model import check_tokenizer
from lenvm.playground import MAX_TOKENS, POLICY_FOLDER
from lenvm.rollout.run import rollout
from lenvm.tasks import Playground


def length_tokens(
    value_model: str,
    output: Path = Path("results/length_tokens"),
    *,
    rollouts: Path | None = None,
    max_rollouts: int | None = None,
    prompts: int = 256,
    num_samples: int = 16,
    sampling: SamplingSettings = SamplingSettings(max_tokens=MAX_TOKENS),
    threshold: float = 0.01,
    min_count: int = 5,
    num_contexts: int = 3,
    tokenizer: str | None = None,
    batch_size: int = 64,
    rows_per_part: int = 1024,
    font: Path | None = None,
    allow_overlap: bool = False,
) -> None:
    """Measures what each completion token does to the predicted horizon, and lists those that lengthen and shorten.

    The shift of a token is `gamma * u' - u + 1 - gamma`, with u the horizon before it and u' after it: minus the TD
    residual of Eq. 16, so that positive means longer. A token is on the longer side if its mean shift is above the
    threshold; tokens of a side are ordered by how often their shift is beyond it. Finished parts of the rollouts are
    under `parts/` of the output folder; run again after a kill, the evaluation goes on with what is missing.

    Args:
        value_model: name on the hub or folder of the length value model.
        output: folder for everything that is written.
        rollouts: file or folder of completions; left out, held-out problems of the playground are completed by its
            policy, under `rollouts/` of the output folder.
        max_rollouts: how many of them to read; left out, all.
        prompts: how many problems, where `rollouts` is left out.
        num_samples: completions per problem, where `rollouts` is left out.
        sampling: how these are sampled.
        threshold: shifts beyond plus or minus this count as events.
        min_count: tokens that occur less often are in no table or figure.
        num_contexts: contexts to keep per token and side, those with the largest shifts.
        tokenizer: name or folder of the tokenizer; left out, the value model's.
        batch_size: completions per forward pass.
        rows_per_part: completions per finished part.
        font: TrueType file for the word clouds; left out, DejaVu Sans, which has no Chinese, for example.
        allow_overlap: go on although the value model was trained on some of the prompts.
    """
    _check(prompts=prompts, num_samples=num_samples, min_count=min_count, num_contexts=num_contexts)
    _check(batch_size=batch_size, rows_per_part=rows_per_part, max_rollouts=1 if max_rollouts is None else max_rollouts)
    if not threshold >= 0:
        raise InputError(f"`threshold` must not be negative, got {threshold}.")
    if font is not None and not font.is_file():
        raise InputError(f"`font` must be a TrueType file, but there is none at {font}.")
    files = None if rollouts is None else _files(rollouts)
    model = LengthValueModel.from_pretrained(value_model)
    reader = load_tokenizer(tokenizer or value_model)
    check_tokenizer(model.tokenizer_fingerprint, fingerprint(reader), value_model)
    if files is None:
        sampled = output / "rollouts"
        rollout(
            str(POLICY_FOLDER), sampled, Playground(), part="test", prompts=prompts, num_samples=num_samples,
            sampling=sampling,
        )  # fmt: skip
        files = _files(sampled)
    check_shards(files, reader, "completion_ids", "give a value model of the generator that wrote them")
    written_as: Any = model.prompt_format
    trained_on = None if allow_overlap else model.training_prompts
    scoring = ShiftScoring(
        model=model.to("cuda" if torch.cuda.is_available() else "cpu"),
        encoder=RolloutEncoder(reader, written_as, model.backbone.context_length),
        threshold=threshold,
        num_contexts=num_contexts,
        batch_size=batch_size,
        trained_on=None if trained_on is None else PromptSet.from_text(trained_on),
    )
    settings = {
        "value_model": f"{value_model} {_model_digest(model)}",
        "tokenizer": fingerprint(reader),
        "threshold": threshold,
        "num_contexts": num_contexts,
    }
    found = score_in_parts(
        scoring, files, output / "parts", settings, rows_per_part=rows_per_part, max_rollouts=max_rollouts
    )
    write_length_tokens(output, found, reader, gamma=model.gamma, min_count=min_count, font=font)


def _check(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"`{name}` must be at least 1, got {count}.")


def _files(source: Path) -> list[Path]:
    files = find_files([source])
    if files is None:
        raise InputError(f"`rollouts` must be a file or folder of completions, but {source} does not exist.")
    return files


def _model_digest(model: LengthValueModel) -> str:
    """A short hash of weights and of what makes lengths of a head's outputs; not of notes such as versions."""
    config = model.config
    facts = [weights_digest(model), config.head, config.target, config.gamma, config.prompt_format]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

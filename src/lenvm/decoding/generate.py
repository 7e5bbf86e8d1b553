"""`lenvm.generate`: completions of prompts, steered by a length value model."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from lenvm.data.encoding import PromptFormat
from lenvm.data.tokenizer import fingerprint, load_tokenizer
from lenvm.decoding.generator import AnyPrompt, check_ids, context_length, encode, eos_ids, load_generator, room_for
from lenvm.decoding.guidance import Guidance
from lenvm.decoding.loop import Row, Step, Written, decode
from lenvm.decoding.rules import AbstractRule, PerRow
from lenvm.decoding.scorers import AbstractScorer, ActionValueScorer, TreeScorer
from lenvm.decoding.settings import SamplingSettings, cut_at_stop
from lenvm.errors import InputError
from lenvm.heads import AbstractActionHead
from lenvm.models import LengthValueModel
from lenvm.models.value_model import check_tokenizer

GUIDED = SamplingSettings(top_k=15, top_p=0.999)
"""The candidates that the paper steers with (appendix A)."""

ScorerName = Literal["auto", "tree", "action_value"]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One completion; lists have one entry per token, EOS included.

    Attributes:
        prompt: number of its prompt among those given.
        sample: its number among the samples of its prompt.
        text: what was written, without EOS.
        ids: token ids.
        finish_reason: `stop` if it ended by itself, `length` if a limit cut it.
        remaining: predicted number of tokens after each token; empty without a value model.
        horizons: the same as `1 - gamma**remaining`.
        log_probs: the generator's own log-probability of each token, at temperature 1 and unfiltered; empty unless
            asked for.
    """

    prompt: int
    sample: int
    text: str
    ids: list[int]
    finish_reason: Literal["stop", "length"]
    remaining: list[float] = field(repr=False)
    horizons: list[float] = field(repr=False)
    log_probs: list[float] = field(repr=False)


def generate(
    generator: PreTrainedModel | str,
    tokenizer: PreTrainedTokenizerBase | None,
    value_model: LengthValueModel | str | Path | None,
    prompts: Sequence[AnyPrompt],
    *,
    rule: AbstractRule | Sequence[AbstractRule] | None = None,
    **options: Any,
) -> list[Completion]:
    """Writes completions whose length a rule steers.

    Args:
        generator: a causal language model, or its name or folder.
        tokenizer: its tokenizer; None loads the one that the generator's name has.
        value_model: the length value model, or its name or folder; None samples plainly.
        prompts: texts, chat messages, or token ids.
        rule: how predicted lengths change the distribution; one for all prompts, or one per prompt.
        **options: see `stream`.

    Returns:
        `num_samples` completions per prompt, in the order of the prompts.
    """
    completions = stream(generator, tokenizer, value_model, prompts, rule=rule, **options)
    return sorted(completions, key=lambda c: (c.prompt, c.sample))


def stream(
    generator: PreTrainedModel | str,
    tokenizer: PreTrainedTokenizerBase | None,
    value_model: LengthValueModel | str | Path | None,
    prompts: Sequence[AnyPrompt],
    *,
    rule: AbstractRule | Sequence[AbstractRule] | None = None,
    scorer: AbstractScorer | ScorerName = "auto",
    sampling: SamplingSettings = GUIDED,
    num_samples: int = 1,
    prompt_format: PromptFormat | None = None,
    batch_size: int = 64,
    processors: list[LogitsProcessor] | Callable[[int], list[LogitsProcessor]] | None = None,
    with_log_probs: bool = False,
    listener: Callable[[Step], None] | None = None,
) -> Iterator[Completion]:
    """Yields completions as they end. Everything is checked before the first token is written.

    Args:
        generator: a causal language model, or its name or folder.
        tokenizer: its tokenizer; None loads the one that the generator's name has.
        value_model: the length value model, or its name or folder; None samples plainly.
        prompts: texts, chat messages, or token ids.
        rule: how predicted lengths change the distribution: one for all prompts (whose per-row parameters are one per
            prompt), or one rule per prompt. None writes plainly; with a value model, it still predicts.
        scorer: how candidates are scored: `tree` (exact), `action_value` (cheap; needs an action-value head), or
            `auto`: the cheap one where the head allows it.
        sampling: filters, token limit and seed.
        num_samples: completions per prompt.
        prompt_format: `auto`, `chat` or `plain`, as for training; left out, what the value model was trained with.
        batch_size: completions written at a time.
        processors: transformers' logits processors, applied before the filters; or a function that makes them for a
            batch whose prompts are padded to so many tokens, for those that count from the end of the prompt.
        with_log_probs: also return the generator's own log-probabilities.
        listener: called after every token; row `i` is sample `i % num_samples` of prompt `i // num_samples`.

    Raises:
        InputError: if tokenizers differ, a target cannot be reached, or a prompt leaves no room.
    """
    generator, tokenizer = _loaded(generator, tokenizer)
    model = LengthValueModel.from_pretrained(value_model) if isinstance(value_model, str | Path) else value_model
    if rule is not None and model is None:
        raise InputError("a rule needs a value model to predict lengths with; give one, or no rule.")
    if num_samples < 1 or batch_size < 1:
        raise InputError(f"`num_samples` and `batch_size` must be at least 1, got {num_samples} and {batch_size}.")
    prompt_ids = encode(prompts, tokenizer, model, prompt_format)
    if not prompt_ids:
        return
    check_ids(prompt_ids, generator, model)
    contexts = [context_length(generator), None if model is None else model.backbone.context_length]
    rooms = [room_for(f"prompt {i}", ids, contexts, sampling.max_tokens) for i, ids in enumerate(prompt_ids)]
    rows = _rows(prompt_ids, rooms, num_samples)
    guidance = None
    if model is not None:
        rule = _rule_of_prompts(rule, len(prompts))
        guidance = prepare(generator, tokenizer, model, scorer, rule)
        check_targets(rule, model.shortest_length, rooms)
        guidance = guidance.for_rows(torch.arange(len(prompts)).repeat_interleave(num_samples))
    eos = eos_ids(generator, tokenizer)
    order = sorted(range(len(rows)), key=lambda i: (len(prompt_ids[rows[i].prompt]), i))
    for start in range(0, len(order), batch_size):
        lines = order[start : start + batch_size]
        mine = sorted({rows[i].prompt for i in lines})
        for written in decode(
            generator,
            [prompt_ids[p] for p in mine],
            [rows[i]._replace(prompt=mine.index(rows[i].prompt)) for i in lines],
            eos,
            sampling,
            guidance=None if guidance is None else guidance.for_rows(torch.tensor(lines)),
            processors=_for_batch(processors, max(len(prompt_ids[p]) for p in mine)),
            tokenizer=tokenizer,
            with_log_probs=with_log_probs,
            listener=None if listener is None else _numbered(listener, lines),
        ):
            completion = _completion(written, lines[written.row], num_samples, tokenizer, eos, model)
            yield replace(completion, text=cut_at_stop(completion.text, sampling.stop)[1])


def prepare(
    generator: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model: LengthValueModel,
    scorer: AbstractScorer | ScorerName,
    rule: AbstractRule | None,
) -> Guidance:
    """Checks that a value model can steer this generator, puts it beside it, and chooses the scorer.

    Raises:
        InputError: if their tokens differ, or the model cannot be scored this way.
    """
    check_tokenizer(model.tokenizer_fingerprint, fingerprint(tokenizer), "the value model")
    vocabulary = generator.config.get_text_config().vocab_size
    for name, known in (("generator", vocabulary), ("value model", model.backbone.vocab_size)):
        if len(tokenizer) > known:
            raise InputError(
                f"the tokenizer has {len(tokenizer)} tokens, the {name} only {known}; use the generator's own "
                "tokenizer, and a value model that was trained with it."
            )
    if scorer == "auto":
        scorer = "action_value" if isinstance(model.head, AbstractActionHead) else "tree"
    named: dict[str, AbstractScorer] = {"tree": TreeScorer(), "action_value": ActionValueScorer()}
    if isinstance(scorer, str) and scorer not in named:
        raise InputError(f"`scorer` must be `auto`, {', '.join(f'`{n}`' for n in named)} or a scorer, got {scorer!r}.")
    chosen = named[scorer] if isinstance(scorer, str) else scorer
    chosen.check(model)
    if model.is_shared:
        model.backbone.attach(generator)  # type: ignore[operator]
    model.to(generator.device).eval()
    return Guidance(model=model, scorer=chosen, rule=rule)


def _loaded(
    generator: PreTrainedModel | str, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if tokenizer is None:
        name = generator if isinstance(generator, str) else generator.config.name_or_path
        if not name:
            raise InputError("this generator does not say where it came from; give its `tokenizer` too.")
        tokenizer = load_tokenizer(name)
    return load_generator(generator) if isinstance(generator, str) else generator, tokenizer


def _rows(prompt_ids: list[list[int]], rooms: list[int], num_samples: int) -> list[Row]:
    """One row per completion; the same prompt given twice counts on, so that it is not written twice alike."""
    seen: Counter[str] = Counter()
    rows = []
    for i, ids in enumerate(prompt_ids):
        digest = hashlib.sha256(str(ids).encode()).hexdigest()
        rows += [Row(i, f"{digest}/{seen[digest] + sample}", rooms[i]) for sample in range(num_samples)]
        seen[digest] += num_samples
    return rows


def _rule_of_prompts(rule: AbstractRule | Sequence[AbstractRule] | None, num_prompts: int) -> AbstractRule | None:
    """One rule for all prompts, from the rule or rules that were given."""
    if rule is None:
        return None
    if not isinstance(rule, AbstractRule):
        if len(rule) != num_prompts:
            raise InputError(
                f"give one rule, or one per prompt: there are {num_prompts} prompts, got {len(rule)} rules."
            )
        distinct = {id(r): r for r in rule}
        number = {key: i for i, key in enumerate(distinct)}
        rule = PerRow(rules=list(distinct.values()), which=[number[id(r)] for r in rule])
    if rule.num_rows not in (None, num_prompts):
        raise InputError(
            f"the rule has parameters for {rule.num_rows} prompts, but there are {num_prompts}; give one value each."
        )
    return rule


def check_targets(rule: AbstractRule | None, shortest: int | None, rooms: list[int]) -> None:
    """Makes sure that every prompt leaves room for its own target.

    Raises:
        InputError: if one does not.
    """
    if rule is None:
        return
    if rule.num_rows is None:
        rule.check(shortest, min(rooms))
        return
    for i, room in enumerate(rooms):
        rule.for_rows(torch.tensor([i])).check(shortest, room)


def _for_batch(
    processors: list[LogitsProcessor] | Callable[[int], list[LogitsProcessor]] | None, width: int
) -> LogitsProcessorList | None:
    if processors is None:
        return None
    return LogitsProcessorList(processors if isinstance(processors, list) else processors(width))


def _numbered(listener: Callable[[Step], None], lines: list[int]) -> Callable[[Step], None]:
    """The listener of a batch: it is told of rows by their number among all."""
    return lambda step: listener(step._replace(rows=[lines[row] for row in step.rows]))


def _completion(
    written: Written,
    row: int,
    num_samples: int,
    tokenizer: PreTrainedTokenizerBase,
    eos: Sequence[int],
    model: LengthValueModel | None,
) -> Completion:
    shown = written.ids[:-1] if written.ids[-1] in eos else written.ids
    return Completion(
        prompt=row // num_samples,
        sample=row % num_samples,
        text=str(tokenizer.decode(shown)),
        ids=written.ids,
        finish_reason="stop" if written.finished else "length",
        remaining=written.remaining,
        horizons=[] if model is None else [-math.expm1(n * math.log(model.gamma)) for n in written.remaining],
        log_probs=written.log_probs,
    )

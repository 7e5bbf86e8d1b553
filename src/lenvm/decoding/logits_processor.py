"""Guidance for people who call transformers' `model.generate` themselves."""

from __future__ import annotations

import math
import sys
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from lenvm.decoding.candidates import Candidates, candidates, is_among
from lenvm.decoding.generate import GUIDED, ScorerName, check_targets, prepare
from lenvm.decoding.generator import context_length, eos_ids, room_for
from lenvm.decoding.guidance import Guidance
from lenvm.decoding.rules import AbstractRule
from lenvm.decoding.scorers import AbstractScorer, AbstractScoring
from lenvm.decoding.settings import SamplingSettings
from lenvm.errors import InputError
from lenvm.models import LengthValueModel

_BEAMS = (
    "the rows of the batch change places or prefixes, as in beam search, which length guidance does not support; use "
    "greedy decoding or sampling (`num_beams=1`)."
)


class LengthGuidance(LogitsProcessor):
    """Steers `model.generate`: pass it in `logits_processor`, with greedy decoding or sampling, in batches of any size.

    It filters candidates itself, so leave `generate`'s own filters off (`top_k=0`, `temperature=1.0`, `top_p=1.0`):
    they would run after it. Beam search is refused: its beams exchange their prefixes, and a rule makes no sense of
    sums of guided log-probabilities. Use it in a `with` block, or call `close`, when the value model shares the
    generator's backbone: it then listens to the generator's hidden states.

        with LengthGuidance(model, tokenizer, value_model, EqualTo(n=64)) as guidance:
            model.generate(**inputs, do_sample=True, top_k=0, logits_processor=[guidance])

    Args:
        generator: the model whose `generate` will be called.
        tokenizer: its tokenizer; its padding token tells where left-padded prompts begin.
        value_model: predicts lengths.
        rule: changes the distribution; per-row parameters are one per prompt.
        scorer: `tree`, `action_value`, `auto`, or a scorer.
        sampling: the candidate filters; its seed and token limit are not used.

    Raises:
        InputError: if value model and generator do not fit; at the call, if rows change places (beam search) or a
            target cannot be reached.
    """

    def __init__(
        self,
        generator: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        value_model: LengthValueModel,
        rule: AbstractRule,
        *,
        scorer: AbstractScorer | ScorerName = "auto",
        sampling: SamplingSettings = GUIDED,
    ) -> None:
        self._guidance = prepare(generator, tokenizer, value_model, scorer, rule)
        self._contexts = [c for c in (context_length(generator), value_model.backbone.context_length) if c is not None]
        self._sampling = sampling
        self._eos = torch.tensor(eos_ids(generator, tokenizer), device=generator.device)
        self._padding = tokenizer.pad_token_id
        self._hidden = torch.empty(0, device=generator.device)
        self._hook, self._closed = None, False
        if value_model.is_shared:
            self._hook = generator.get_output_embeddings().register_forward_pre_hook(self._listen)
        self._seen: Tensor | None = None
        self._start = 0
        self._scoring: AbstractScoring
        self._rows: Guidance
        self._offered: Candidates
        self._ended: Tensor
        self._room: Tensor

    def __enter__(self) -> LengthGuidance:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening to the generator, and forgets the last batch."""
        if self._hook is not None:
            self._hook.remove()
        self._seen, self._closed = None, True

    @torch.inference_mode()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Guided scores: log-probabilities of the candidates, -inf elsewhere.

        Args:
            input_ids: (B, T), prompts padded on the left.
            scores: the generator's logits; (B, vocabulary).
        """
        if self._continues(input_ids):
            self._advance(input_ids[:, -1])
        else:
            self._begin(input_ids, scores)
        self._seen = input_ids.clone()
        generated = torch.full_like(self._room, input_ids.shape[1] - self._start)
        if ((generated >= self._room) & ~self._ended).any():
            raise InputError(
                f"a completion has outgrown the context of {min(self._contexts)} tokens, the shorter one of the "
                "generator's and the value model's; lower `max_new_tokens`."
            )
        offered = self._offered = candidates(scores[:, : self._guidance.model.backbone.vocab_size], self._sampling)
        rule, gamma = self._rows.rule, self._rows.model.gamma
        assert rule is not None
        self._scoring.observe(self._hidden)
        # which token is drawn is not known here, so rows that the rule leaves alone are read with all candidates
        scored = offered.mask & ~self._ended[:, None] & ~is_among(offered.ids, self._eos)
        horizons = -torch.expm1(self._scoring.remaining(offered.ids, scored) * math.log(gamma))
        wanted = rule.wants(offered.log_probs, offered.mask, generated) & ~self._ended
        steered = rule(offered.log_probs, horizons, offered.mask, generated, gamma)
        log_probs = torch.where(wanted[:, None], steered, offered.log_probs)
        return torch.full_like(scores, -torch.inf).scatter_(1, offered.ids, log_probs.to(scores.dtype))

    def _listen(self, _: Any, inputs: tuple[Tensor, ...]) -> None:
        self._hidden = inputs[0][:, -1]

    def _continues(self, input_ids: Tensor) -> bool:
        """Whether this call is the next step of the last one, rather than another `generate`."""
        seen = self._seen
        if seen is None or input_ids.shape != (seen.shape[0], seen.shape[1] + 1):
            return False
        if torch.equal(input_ids[:, :-1], seen):
            return True
        if torch.equal(input_ids[:, : self._start], seen[:, : self._start]):
            raise InputError(_BEAMS)
        return False

    def _begin(self, input_ids: Tensor, scores: Tensor) -> None:
        if self._closed and self._guidance.model.is_shared:
            raise InputError(
                "this LengthGuidance is closed and no longer hears the generator's hidden states; make another one."
            )
        rule = self._guidance.rule
        assert rule is not None
        prompts = [self._unpadded(row) for row in input_ids.tolist()]
        distinct = list(dict.fromkeys(map(tuple, prompts)))
        # beam search hands over log-probabilities where all else hands over logits, and every prompt several times
        if len(distinct) < len(prompts) and (scores.logsumexp(-1).abs() < 1e-4).all():
            raise InputError(_BEAMS)
        number = {prompt: i for i, prompt in enumerate(distinct)}
        place = torch.tensor([number[tuple(p)] for p in prompts], device=input_ids.device)
        self._start = input_ids.shape[1]
        self._ended = torch.zeros(len(prompts), dtype=torch.bool, device=input_ids.device)
        given = rule.num_rows
        if given is not None and len(prompts) % given != 0:
            raise InputError(f"the rule has parameters for {given} prompts, but the batch has {len(prompts)} rows.")
        self._rows = self._guidance
        if given is not None:
            owners = torch.arange(given, device=input_ids.device).repeat_interleave(len(prompts) // given)
            self._rows = self._guidance.for_rows(owners)
        rooms = [room_for(f"prompt {i}", ids, self._contexts, sys.maxsize) for i, ids in enumerate(prompts)]
        check_targets(self._rows.rule, self._guidance.model.shortest_length, rooms)
        self._room = torch.tensor(rooms, device=input_ids.device)
        self._scoring = self._guidance.scorer.start(self._guidance.model, distinct, place)

    def _advance(self, newest: Tensor) -> None:
        found = (self._offered.ids == newest[:, None]) & self._offered.mask
        # generate fills rows that have ended with padding, which was no candidate
        choice = found.int().argmax(-1)
        if lost := int((~found.any(-1) & ~self._ended).sum()):
            raise InputError(
                f"{lost} row(s) went on with a token that guidance had ruled out; leave other filters and processors "
                "of `generate` off, or put them before this one."
            )
        self._scoring.advance(newest, choice)
        self._ended = self._ended | is_among(newest, self._eos)

    def _unpadded(self, row: list[int]) -> list[int]:
        start = next((i for i, token in enumerate(row) if token != self._padding), len(row) - 1)
        return row[start:]

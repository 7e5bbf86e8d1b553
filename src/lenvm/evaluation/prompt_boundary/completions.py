"""Completions of many prompts as token ids, with what is true of each prompt."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.reading import find_files, read_rows
from lenvm.data.rollout import BadRowError, Rollout, parse_rollout
from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary.predictors import PromptTable
from lenvm.evaluation.prompt_boundary.prompt_choice import PromptChoice
from lenvm.metrics import return_consistent_length

_ENCODED_AT_ONCE = 512
PlacedRollout = tuple[str, Rollout]
"""A rollout after its place, for people."""


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Finished completions of prompts; P prompts with C completions.

    Args:
        table: the prompts that have a known length.
        prompt: number of each completion's prompt in the table; (C,), empty where ids were not to be kept.
        token_ids: of each completion, ending with EOS; empty where they were not to be kept.
        finished: how many rows of these prompts are finished completions.
        cut: how many completions were left out because a token limit cut them: their length is unknown.
        cut_of_prompt: how many of them each prompt of the table had; (P,).
        mostly_cut: how many prompts were left out because too many of their completions were cut, or all.
        prompts_read: how many prompts there were, before any was left out.
        digest: a hash that changes with the prompts and completions.
    """

    table: PromptTable
    prompt: NDArray[np.int64]
    token_ids: list[NDArray[np.int32]]
    finished: int
    cut: int
    cut_of_prompt: NDArray[np.int64]
    mostly_cut: int
    prompts_read: int
    digest: str


class _Asked(NamedTuple):
    """What is kept of a prompt."""

    text: str
    ids: list[int]
    domain: str


def gather(
    rollouts: Iterable[PlacedRollout],
    encoder: RolloutEncoder,
    gamma: float,
    *,
    lengths_field: str | None = None,
    keep_ids: bool = True,
    skip_bad: bool = False,
    max_prompts: int | None = None,
    max_cut_share: float = 1.0,
) -> Completions:
    """Reads completions, with the return-consistent length of each prompt (Eq. 13 and 14).

    Args:
        rollouts: completions, with their places.
        encoder: turns prompts and completions into tokens.
        gamma: discount factor of the ground truth.
        lengths_field: key of `metadata` that lists the lengths of all completions of the prompt, EOS counted, where
            the rows hold only some of them; None counts the completions themselves.
        keep_ids: whether the completions' token ids are wanted.
        skip_bad: leave out rows that cannot be encoded.
        max_prompts: how many prompts to keep at most, those with the smallest hashes of their ids, so that the order
            of the rows does not matter; None keeps all.
        max_cut_share: prompts of which a larger share of the completions was cut are left out: the finished ones are
            the short ones.

    Raises:
        InputError: for such a row otherwise, for one without `lengths_field`, or if no prompt is left.
    """
    choice = PromptChoice(max_prompts)
    lengths: dict[str, list[int]] = defaultdict(list)
    asked: dict[str, _Asked] = {}
    owners: list[str] = []
    kept: list[NDArray[np.int32]] = []
    finished, cut, digest = Counter[str](), Counter[str](), hashlib.sha256()
    rows = (row for row in rollouts if choice.takes(row[1].prompt_id))
    for place, rollout, prompt_ids, completion_ids in _encoded(rows, encoder, skip_bad=skip_bad):
        name = rollout.prompt_id
        is_finished = rollout.finish_reason == "stop"
        (finished if is_finished else cut)[name] += 1
        if not is_finished and lengths_field is None:
            continue
        if name not in asked:
            asked[name] = _Asked(_text(rollout, encoder), prompt_ids, rollout.domain or "all")
        if lengths_field is None:
            lengths[name].append(len(completion_ids))
        else:
            lengths[name] = _listed(place, rollout, lengths_field)
        if is_finished:
            ids = np.array(completion_ids, dtype=np.int32)
            digest.update(
                f"{name} {len(prompt_ids)} {len(ids)} ".encode() + np.array(prompt_ids, dtype=np.int32).tobytes()
            )
            digest.update(ids.tobytes())
            if keep_ids:
                owners.append(name)
                kept.append(ids)
    chosen = choice.chosen({*finished, *cut})
    names = sorted(p for p in chosen & asked.keys() if cut[p] <= max_cut_share * (cut[p] + finished[p]))
    if not names:
        raise InputError(_nothing_left(bool(asked), max_cut_share))
    number = {name: i for i, name in enumerate(names)}
    digest.update("\n".join(names).encode("utf-8", "surrogatepass"))
    of_names = [i for i, owner in enumerate(owners) if owner in number]
    return Completions(
        table=_table(names, asked, lengths, gamma),
        prompt=np.array([number[owners[i]] for i in of_names], dtype=np.int64),
        token_ids=[kept[i] for i in of_names],
        finished=sum(finished[p] for p in names),
        cut=sum(cut[p] for p in chosen),
        cut_of_prompt=np.array([cut[p] for p in names], dtype=np.int64),
        mostly_cut=len(chosen) - len(names),
        prompts_read=choice.seen,
        digest=digest.hexdigest()[:16],
    )


def _table(names: list[str], asked: dict[str, _Asked], lengths: dict[str, list[int]], gamma: float) -> PromptTable:
    groups = torch.repeat_interleave(torch.tensor([len(lengths[p]) for p in names]))
    flat = torch.tensor([n for p in names for n in lengths[p]])
    return PromptTable(
        prompt_ids=names,
        texts=[asked[p].text for p in names],
        token_ids=[asked[p].ids for p in names],
        lengths=return_consistent_length(flat, groups, gamma).numpy(),
        completion_lengths=[np.array(lengths[p], dtype=np.int64) for p in names],
        domains=[asked[p].domain for p in names],
    )


def _nothing_left(any_finished: bool, max_cut_share: float) -> str:
    if not any_finished:
        return "there is no finished completion to evaluate on; sample with a higher limit."
    return (
        f"of every prompt, more than {max_cut_share:.0%} of the completions were cut by the limit, so that no length "
        "is known well; sample with a higher limit, or raise `--max_cut_share`."
    )


def read_rollouts(source: Path, option: str) -> Iterator[PlacedRollout]:
    """The rows of a file or folder of completions.

    Args:
        source: the file or folder.
        option: what it was given as, for the message.

    Raises:
        InputError: if there is none, or for a row that cannot be read.
    """
    files = find_files([source])
    if files is None:
        raise InputError(f"`{option}` must be a file or folder of completions, but {source} does not exist.")
    for row in read_rows(files):
        try:
            yield row.place, parse_rollout(row.content)
        except BadRowError as error:
            raise InputError(f"{row.place}: {error}; mend the row.") from error


def _encoded(
    rollouts: Iterable[PlacedRollout], encoder: RolloutEncoder, *, skip_bad: bool
) -> Iterator[tuple[str, Rollout, list[int], list[int]]]:
    rows = iter(rollouts)
    while chunk := list(islice(rows, _ENCODED_AT_ONCE)):
        encoded = encoder.encode([rollout for _, rollout in chunk])
        for (place, rollout), ids in zip(chunk, encoded, strict=True):
            if not isinstance(ids, BadRowError):
                yield place, rollout, *ids
            elif not skip_bad:
                raise InputError(f"{place}: {ids}; mend the row.") from ids


def _listed(place: str, rollout: Rollout, field: str) -> list[int]:
    listed = (rollout.metadata or {}).get(field)
    if not isinstance(listed, list) or not listed:
        raise InputError(
            f"{place}: prompt {rollout.prompt_id} has no list `metadata.{field}`; check `--lengths_field`."
        )
    return [int(n) for n in listed]


def _text(rollout: Rollout, encoder: RolloutEncoder) -> str:
    if rollout.prompt is None:
        return str(encoder.tokenizer.decode(rollout.prompt_ids or []))
    return encoder.prompt_text(rollout.prompt)[0]

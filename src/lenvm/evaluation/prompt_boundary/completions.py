"""Completions of many prompts as token ids, with what is true of each prompt."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lenvm.data.encoding import RolloutEncoder
from lenvm.data.reading import find_files, read_rows
from lenvm.data.rollout import BadRowError, Rollout, parse_rollout
from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary.predictors import PromptTable
from lenvm.metrics import return_consistent_length

_ENCODED_AT_ONCE = 512
PlacedRollout = tuple[str, Rollout]
"""A rollout after its place, for people."""


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Finished completions of prompts; C of them.

    Args:
        table: the prompts that have a known length.
        prompt: number of each completion's prompt in the table; (C,).
        token_ids: of each completion, ending with EOS; empty where they were not to be kept.
        cut: how many completions were left out because a token limit cut them: their length is unknown.
        cut_prompts: how many prompts were left out because all their completions were cut.
        digest: a hash that changes with the prompts and completions.
    """

    table: PromptTable
    prompt: NDArray[np.int64]
    token_ids: list[NDArray[np.int32]]
    cut: int
    cut_prompts: int
    digest: str


def gather(
    rollouts: Iterable[PlacedRollout],
    encoder: RolloutEncoder,
    gamma: float,
    *,
    lengths_field: str | None = None,
    keep_ids: bool = True,
    skip_bad: bool = False,
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

    Raises:
        InputError: for such a row otherwise, for one without `lengths_field`, or if no completion is finished.
    """
    lengths: dict[str, list[int]] = defaultdict(list)
    first: dict[str, tuple[Rollout, list[int]]] = {}
    owners: list[str] = []
    kept: list[NDArray[np.int32]] = []
    cut, seen, digest = 0, set[str](), hashlib.sha256()
    for place, rollout, prompt_ids, completion_ids in _encoded(rollouts, encoder, skip_bad=skip_bad):
        name = rollout.prompt_id
        seen.add(name)
        finished = rollout.finish_reason == "stop"
        cut += not finished
        if not finished and lengths_field is None:
            continue
        first.setdefault(name, (rollout, prompt_ids))
        if lengths_field is None:
            lengths[name].append(len(completion_ids))
        else:
            lengths[name] = _listed(place, rollout, lengths_field)
        if finished:
            ids = np.array(completion_ids, dtype=np.int32)
            digest.update(
                f"{name} {len(prompt_ids)} {len(ids)} ".encode() + np.array(prompt_ids, dtype=np.int32).tobytes()
            )
            digest.update(ids.tobytes())
            if keep_ids:
                owners.append(name)
                kept.append(ids)
    if not first:
        raise InputError("there is no finished completion to evaluate on; sample with a higher limit.")
    names = sorted(first)
    number = {name: i for i, name in enumerate(names)}
    groups = torch.repeat_interleave(torch.tensor([len(lengths[p]) for p in names]))
    flat = torch.tensor([n for p in names for n in lengths[p]])
    table = PromptTable(
        prompt_ids=names,
        texts=[_text(first[p][0], encoder) for p in names],
        token_ids=[first[p][1] for p in names],
        lengths=return_consistent_length(flat, groups, gamma).numpy(),
        completion_lengths=[np.array(lengths[p], dtype=np.int64) for p in names],
        domains=[first[p][0].domain or "all" for p in names],
    )
    return Completions(
        table=table,
        prompt=np.array([number[p] for p in owners], dtype=np.int64),
        token_ids=kept,
        cut=cut,
        cut_prompts=len(seen) - len(first),
        digest=digest.hexdigest()[:16],
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

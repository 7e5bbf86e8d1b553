"""Where the completions of the page come from: rollouts, or a generator that writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from lenvm.data.encoding import EncodedRollout, RolloutEncoder
from lenvm.data.reading import find_files, read_rows
from lenvm.data.rollout import BadRowError, Prompt, Rollout, parse_rollout
from lenvm.errors import InputError
from lenvm.models import LengthValueModel
from lenvm.view.tokens import Reading, read

Selected = dict[str, list[Rollout]]
"""Prompt id to completions."""


def select(source: Path, prompts: int, samples: int, prompt_id: str | None) -> tuple[Selected, int]:
    """The completions to show, prompts in the order of the rows, and the number of rows that could not be used.

    Rows are read only until all places are taken.

    Raises:
        InputError: if there is no such file, or no completion in it that can be shown.
    """
    files = find_files([source])
    if files is None:
        raise InputError(f"expected rollouts at {source}, found nothing there; check the path.")
    chosen: Selected = {}
    skipped, problem = 0, ""
    for row in read_rows(files):
        try:
            rollout = parse_rollout(row.content)
        except BadRowError as error:
            skipped, problem = skipped + 1, problem or f"{row.place}: {error}"
            continue
        wanted = len(chosen) < prompts if prompt_id is None else rollout.prompt_id == prompt_id
        if rollout.prompt_id not in chosen and not wanted:
            continue
        group = chosen.setdefault(rollout.prompt_id, [])
        if len(group) < samples:
            group.append(rollout)
        if len(chosen) == (prompts if prompt_id is None else 1) and all(len(g) == samples for g in chosen.values()):
            break
    if not chosen and prompt_id is not None:
        raise InputError(f"no completion in {source} has the prompt_id {prompt_id!r}; see the column `prompt_id`.")
    if not chosen:
        raise InputError(f"no completion in {source} can be shown; the first problem is at {problem}.")
    return chosen, skipped


def read_selected(
    chosen: Selected, encoder: RolloutEncoder, model: LengthValueModel
) -> list[tuple[dict[str, Any], list[Reading]]]:
    """Each prompt as the page shows it, with the readings of its completions.

    Raises:
        InputError: if a completion does not fit the tokenizer or the model.
    """
    groups = []
    for prompt_id, rollouts in chosen.items():
        readings = []
        for rollout, encoded in zip(rollouts, encoder.encode(rollouts), strict=True):
            if not isinstance(encoded, EncodedRollout):
                raise InputError(f"a completion of the prompt {prompt_id!r} cannot be shown: {encoded}.")
            finished = rollout.finish_reason == "stop"
            readings.append(read(*encoded, finished, model, encoder.tokenizer))
        shown = shown_prompt(rollouts[0].prompt, rollouts[0].prompt_ids or [], encoder.tokenizer)
        groups.append(({"id": prompt_id, "domain": rollouts[0].domain, "text": shown}, readings))
    return groups


def shown_prompt(prompt: Prompt | None, prompt_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """A prompt as people read it: of a chat, the messages; of ids without text, what they decode to."""
    if prompt is None:
        return str(tokenizer.decode(list(prompt_ids)))
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return _content(prompt[0]["content"])
    return "\n\n".join(f"{message['role']}: {_content(message['content'])}" for message in prompt)


def _content(content: object) -> str:
    """The text of a message; one with images is a list of parts."""
    if not isinstance(content, list):
        return str(content)
    parts = [p if isinstance(p, dict) else {"text": str(p)} for p in content]
    return "\n".join(str(part.get("text", f"[{part.get('type', 'part')}]")) for part in parts)

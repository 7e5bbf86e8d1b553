"""What a stored token needs on disk: real completions of Qwen2.5 in its own vocabulary, or those of the playground."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from lenvm.data.encoding import EncodedRollout, RolloutEncoder
from lenvm.data.reading import read_rows
from lenvm.data.rollout import Rollout, parse_rollout
from lenvm.data.tokenizer import load_tokenizer
from lenvm.rollout.folder import RolloutFolder
from models import ROOT

_DATA = ROOT.parent / "shared" / "data"
_ROWS = 4000


def bytes_per_token() -> dict[str, float | None]:
    """Bytes of the shards over tokens of prompts and completions; with texts, and with ids alone."""
    if not (_DATA / "castillo").exists():
        return {"bytes_per_token": None, "bytes_per_token_ids_alone": None}
    rows = list(_castillo())
    tokens = sum(len(row.prompt_ids or []) + len(row.completion_ids or []) for row in rows)
    return {
        "bytes_per_token": _size(rows, keep_text=True) / tokens,
        "bytes_per_token_ids_alone": _size(rows, keep_text=False) / tokens,
    }


def _castillo() -> Iterator[Rollout]:
    encoder = RolloutEncoder(load_tokenizer(str(_DATA / "qwen2.5-tokenizer")))
    texts = read_rows([_DATA / "castillo" / "qwen2.5-7b-instruct-1m.jsonl.gz"])
    rollouts = [parse_rollout(row.data or {}) for row in islice(texts, _ROWS)]
    for i, (rollout, encoded) in enumerate(zip(rollouts, encoder.encode(rollouts), strict=True)):
        assert isinstance(encoded, EncodedRollout)
        yield replace(rollout, **encoded._asdict(), metadata={"sample": i})


def _size(rows: list[Rollout], *, keep_text: bool) -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        RolloutFolder(Path(folder), {}, {}, len(rows) + 1, keep_text) as store,
    ):
        for row in rows:
            store.add(row)
        store.write_shard()
        return sum(shard.stat().st_size for shard in store.shards)

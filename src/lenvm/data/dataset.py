"""The rows of one split, fetched a batch at a time."""

from __future__ import annotations

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset

from lenvm.data.batching import RowFacts
from lenvm.data.collate import Clip, RolloutBatch, collate
from lenvm.data.split import numbered


class RolloutDataset(Dataset[RolloutBatch]):
    """Chosen rows of a store; what is kept in memory is a few numbers per row.

    Args:
        store: what `open_store` returned.
        keep: numbers of the store's rows in this split; (R,).
        domains: names of all domains, in the order of their numbers.
        max_length: context of the model in tokens; None for no limit.
        clip: which side of a sequence that is longer is dropped.
        include_terminal: whether the state after EOS is supervised too.
    """

    def __init__(
        self,
        store: datasets.Dataset,
        keep: np.ndarray,
        *,
        domains: list[str],
        max_length: int | None = None,
        clip: Clip = "left",
        include_terminal: bool = False,
    ) -> None:
        self._store, self._keep = store, keep
        self._options = {"max_length": max_length, "clip": clip, "include_terminal": include_terminal}
        table: pa.Table = store.data.table
        self.length = pc.list_value_length(table["completion_ids"]).to_numpy()[keep]
        prompt_length = pc.list_value_length(table["prompt_ids"]).to_numpy()[keep]
        prompts, prompt_ids = numbered(table["prompt_id"])
        used, self.prompt = np.unique(prompts[keep], return_inverse=True)
        self.prompt_ids = [prompt_ids[i] for i in used]
        domain_of_row, names = numbered(table["domain"])
        self.domain = np.array([domains.index(name) for name in names], dtype=np.int64)[domain_of_row[keep]]
        self.domains = domains
        self.facts = RowFacts(length=prompt_length + self.length, prompt=self.prompt)

    def __len__(self) -> int:
        return len(self._keep)

    def __getitem__(self, rows: int | list[int]) -> RolloutBatch:
        chosen = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        table: pa.Table = self._store[self._keep[chosen].tolist()]
        return collate(
            table,
            row=chosen,
            prompt=self.prompt[chosen],
            domain=self.domain[chosen],
            **self._options,  # type: ignore[arg-type]
        )

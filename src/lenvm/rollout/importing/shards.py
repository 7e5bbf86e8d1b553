"""The folder of an import: all its shards appear at the end, or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

from lenvm.data.reading import find_files
from lenvm.data.rollout import Rollout
from lenvm.data.writing import write_rollouts
from lenvm.errors import InputError
from lenvm.rollout.folder import BOOKKEEPING

_UNFINISHED = "_import"  # files under a name that begins with _ are no data of the folder


def check_folder(folder: Path) -> None:
    """Makes sure that nothing would be overwritten, or be read together with what is imported.

    Raises:
        InputError: if the folder is a file, holds rollouts already, or holds what an interrupted import left.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`output` must be a folder, but {folder} is a file; choose another name.")
    if (folder / _UNFINISHED).exists():
        raise InputError(
            f"an import into {folder} is running or was interrupted; if none is running, remove "
            f"{folder / _UNFINISHED} and import again."
        )
    if (folder / BOOKKEEPING).exists():
        raise InputError(f"{folder} belongs to a run of `lenvm rollout`; choose another folder as `--output`.")
    found = None
    if folder.exists():
        with suppress(InputError):  # it holds no data
            found = find_files([folder])
    if found:
        raise InputError(
            f"{folder} already holds {found[0].relative_to(folder)}, which would be read together with the import; "
            f"remove it{' and the files like it' if len(found) > 1 else ''}, or choose another folder as `--output`."
        )


def write_shards(rollouts: Iterable[Rollout], folder: Path, rows_per_shard: int, facts: dict[str, Any]) -> int:
    """Writes rows to `rollouts-00000.parquet`, ... under a folder.

    Args:
        rollouts: the rows; only one group of them is in memory at a time.
        folder: made if it does not exist; without a first row, nothing is.
        rows_per_shard: most rows of one file.
        facts: what every file shall say of itself.

    Returns:
        The number of shards.
    """
    rows = iter(rollouts)
    number = 0
    if (row := next(rows, None)) is None:
        return number
    with _unfinished(folder) as place:
        while row is not None:
            shard = chain([row], islice(rows, rows_per_shard - 1))
            write_rollouts(shard, place / f"rollouts-{number:05d}.parquet", facts=facts)
            number += 1
            row = next(rows, None)
        for file in sorted(place.iterdir()):
            file.rename(folder / file.name)
    return number


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A folder for shards within `folder`, which goes at the end; `folder`, too, if nothing else is in it."""
    place = folder / _UNFINISHED
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # it is not empty
            folder.rmdir()

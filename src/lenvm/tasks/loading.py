"""Datasets by hub name, folder or file, memory-mapped; whatever can be wrong is said in one sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenvm.errors import InputError

_BUILDERS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
_PLACE = "{split}"


def load_split(
    source: str,
    split: str,
    *,
    splits: Sequence[str],
    config: str | None = None,
    revision: str | None = None,
    columns: Sequence[str] = (),
) -> Any:
    """One split as a `datasets.Dataset`, in its order.

    Args:
        source: a dataset's name on the hub; a folder of JSON Lines, JSON, Parquet or CSV files, or a copy of the hub's
            folder; one such file; or a path or `hf://` address of a file with `{split}` in it.
        split: which split.
        splits: all splits that the caller knows of: a single file is one of them, by its name if there are several.
        config: the dataset's configuration on the hub; a folder may be without.
        revision: branch, tag or commit on the hub.
        columns: what is downloaded from the hub where its format allows to leave out the rest.

    Raises:
        InputError: if it cannot be loaded.
    """
    path = Path(source.replace(_PLACE, split)).expanduser()
    try:
        if source.startswith("hf://"):
            address = source.replace(_PLACE, split)
            return _load(_builder(Path(address)), split=split, data_files={split: address})
        if path.is_file():
            if _PLACE not in source and (only := split_of_file(source, splits)) != split:
                raise InputError(f"{source} is {only!r} by its name, and {split!r} is wanted; give a folder with both.")
            return _load(_builder(path), split=split, data_files={split: str(path)})
        if path.is_dir():
            return _load(str(path), **_in_folder(str(path), split, config))
        if _is_path(source):
            raise InputError(f"{source} does not exist; expected a folder or file, or the name of a hub dataset.")
        return _load_columns(source, columns, split=split, name=config, revision=revision)
    except InputError:
        raise
    except Exception as error:  # the hub's clients and builders raise many unrelated types
        raise InputError(_explained(source, split, error)) from error


def _load(path: str, **options: Any) -> Any:
    import datasets

    return datasets.load_dataset(path, **options)


def _load_columns(path: str, columns: Sequence[str], **options: Any) -> Any:
    if columns:
        try:
            return _load(path, columns=list(columns), **options)
        except ValueError as error:
            if "'columns' key" not in str(error):  # only Parquet can be read in part
                raise
    return _load(path, **options)


def _builder(file: Path) -> str:
    suffix = Path(file.stem).suffix if file.suffix == ".gz" else file.suffix
    if suffix not in _BUILDERS:
        raise InputError(f"cannot read {file}: expected a file ending in {', '.join(_BUILDERS)}, perhaps with .gz.")
    return _BUILDERS[suffix]


def split_of_file(source: str, splits: Sequence[str]) -> str | None:
    """The one split that a single file is, by its name if there are several; None for everything but a file.

    Raises:
        InputError: if its name does not say which.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        return None
    if len(splits) == 1:
        return splits[0]
    words = re.split(r"[^a-z0-9]+", path.name.lower())
    named = [name for name in splits if name in words]
    if len(named) != 1:
        raise InputError(
            f"the name of {path} does not say which of {', '.join(splits)} it is; give it such a name, or give a "
            "folder with one file per split."
        )
    return named[0]


def _in_folder(folder: str, split: str, config: str | None) -> dict[str, Any]:
    """The names of configuration and split that a folder has for what is called so on the hub."""
    import datasets

    configs = datasets.get_dataset_config_names(folder)
    name = config if config in configs else None
    present = datasets.get_dataset_split_names(folder, name)
    # files called `valid` make a split called `validation`, unless the folder has the hub's card
    if split == "valid" and split not in present and "validation" in present:
        split = "validation"
    return {"name": name, "split": split}


def _is_path(source: str) -> bool:
    return source.startswith((".", "/", "~")) or "\\" in source or source.count("/") > 1 or _is_data(source)


def _is_data(source: str) -> bool:
    return Path(source.removesuffix(".gz")).suffix in _BUILDERS


def _explained(source: str, split: str, error: Exception) -> str:
    """What went wrong, and what to do about it."""
    from datasets.exceptions import DatasetNotFoundError

    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    message = " ".join(str(root).split())[:200] or type(root).__name__
    if isinstance(error, DatasetNotFoundError):
        return f"the hub gives no dataset {source!r}: it does not exist, or wants `hf auth login` ({message})."
    if isinstance(error, ConnectionError):
        return (
            f"the hub cannot be reached for {source!r} ({message}); go online once, or give `source` a local folder "
            "or file with the same columns."
        )
    if isinstance(error, StopIteration):
        return f"{source} is empty: expected at least one row."
    if "Unknown split" in message and Path(source).expanduser().is_dir():
        return (
            f"{source} has no files that are called after the split {split!r} of this task ({message}); give the file "
            "itself as `source`, or name it so."
        )
    if "Unknown split" in message or "BuilderConfig" in message:
        return f"{source} does not have the split {split!r} of this task ({message}); check `source` and `revision`."
    if column := re.match(r"No match for FieldRef.Name\((\w+)\)", message):
        present = re.findall(r"(?:in |\n)([A-Za-z]\w*): ", str(root))
        return missing_column(source, column[1], present)
    return f"{source} cannot be loaded as a dataset ({type(root).__name__}: {message}); check `source`."


def missing_column(source: str, column: str, present: Sequence[str]) -> str:
    """The sentence for a dataset without a column that its task reads."""
    return (
        f"{source} has no column {column!r}; present: {', '.join(sorted(present)) or 'none'}; expected the columns of "
        "the hub's dataset, or use the task `Table`, which can be told their names."
    )

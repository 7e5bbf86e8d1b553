"""The held-out and the training completions of a finished `lenvm fit`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from lenvm.data import RolloutDataModule
from lenvm.data.reading import find_files, read_hub_rows, read_rows
from lenvm.data.rollout import BadRowError, parse_rollout
from lenvm.data.tokenizer import fingerprint
from lenvm.errors import InputError
from lenvm.evaluation.prompt_boundary.completions import PlacedRollout
from lenvm.models import LengthValueModel
from lenvm.models.value_model import check_tokenizer


def data_of_run(run: Path, model: LengthValueModel) -> RolloutDataModule:
    """The run's data module with the run's splits, from its resolved configuration.

    Raises:
        InputError: if the folder has no readable configuration, or the data another tokenizer than the model.
    """
    path = run / "config.yaml"
    if not path.exists():
        raise InputError(f"expected the folder of a finished `lenvm fit`, but {path} does not exist.")
    settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    settings["tokenizer"] = settings.get("tokenizer") or str(run / "model")
    settings["max_length"] = settings.get("max_length") or model.backbone.context_length
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RolloutDataModule, "data")
    try:
        data: RolloutDataModule = parser.instantiate_classes(parser.parse_object({"data": settings})).data
    except ArgumentError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    check_tokenizer(model.tokenizer_fingerprint, fingerprint(data.tokenizer), str(run / "model"))
    data.setup("evaluate")
    return data


def sources_of(data: RolloutDataModule, split: str) -> list[str]:
    """The files that a split's rows are in."""
    source = data.sources[split] or data.sources["train"]
    return [source] if isinstance(source, str) else list(source or [])


def rollouts_of_run(data: RolloutDataModule, split: str) -> Iterator[PlacedRollout]:
    """The rows of a split, as they stand in its files."""
    sources = sources_of(data, split)
    columns: Any = data.read_options["columns"]
    split_name = str(data.read_options["hub_split"])
    files = find_files(sources)
    wanted = set(data.datasets[split].prompt_ids)
    rows = read_rows(files, columns) if files is not None else read_hub_rows(sources[0], split_name, columns)
    for row in rows:
        try:
            rollout = parse_rollout(row.data) if row.data is not None else None
        except BadRowError:
            continue  # the run itself has reported it
        if rollout is not None and rollout.prompt_id in wanted:
            yield row.place, rollout

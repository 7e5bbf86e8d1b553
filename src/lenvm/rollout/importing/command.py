"""`lenvm rollout import`: completions that another program wrote, as rollout files that `lenvm fit` reads."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lenvm.data.reading import RawRow
from lenvm.data.rollout import BadRowError, Rollout, parse_rollout
from lenvm.data.store import OnBadRow
from lenvm.errors import InputError
from lenvm.rollout.importing.base import AbstractFormat, shown
from lenvm.rollout.importing.columns import Columns
from lenvm.rollout.importing.openai_batch import OpenAIBatch
from lenvm.rollout.importing.published import Published
from lenvm.rollout.importing.report import ImportReport
from lenvm.rollout.importing.shards import check_folder, write_shards
from lenvm.rollout.importing.source import read_source

FormatName = Literal["auto", "published", "openai_batch", "columns"]
_FORMATS: tuple[type[AbstractFormat], ...] = (Published, OpenAIBatch, Columns)
_LOOKED_AT = 1000  # rows among which one has to be readable, for a format to be recognised
_SHOWN_EVERY = 256


def import_rollouts(
    file: Path,
    *,
    output: Path,
    format: FormatName | AbstractFormat = "auto",
    batch_input: Path | None = None,
    columns: dict[str, str] | None = None,
    image_folder: Path | None = None,
    rows_per_shard: int = 50_000,
    on_bad_row: OnBadRow = "stop",
) -> None:
    """Turns completions that another program wrote into rollouts, without tokenising them.

    Memory does not grow with the file, but for eight bytes per completion. The shards appear in the output folder when
    all of them are written.

    Args:
        file: JSON Lines, a JSON array (both plain or gzip), CSV or Parquet.
        output: folder for the shards, `rollouts-00000.parquet` and so on; it must hold no rollouts yet.
        format: `published` (the paper's conversations), `openai_batch` (output of OpenAI's batch interface), `columns`
            (one column of prompts, one of completions), `auto` (decided by the first row), or the class path of a
            format; `--format.help Columns` explains one.
        batch_input: for `openai_batch`: the file that was uploaded; the prompts are in it.
        columns: for `columns`: field to column, such as `'{prompt: question, completion: answer}'`; left out, the usual
            names are looked for.
        image_folder: what relative image paths are relative to; left out, the folder of the file.
        rows_per_shard: most completions of one shard.
        on_bad_row: `stop` at the first row that cannot be used, or `skip` such rows and count them by reason.
    """
    if rows_per_shard < 1:
        raise InputError(f"`rows_per_shard` must be at least 1, got {rows_per_shard}.")
    check_folder(output)
    report = ImportReport(on_bad_row=on_bad_row)
    with closing(read_source(file)) as source:
        first, rows = _first_readable(source)
        if first is None:
            raise InputError(f"no row of {file} can be read; the first problem was: {_problem(rows)}.")
        chosen = _choose(format, first, file, batch_input, columns).fitted(first)
        print(f"{file} is read as `{chosen.name}`: {chosen.described(first)}.")
        spinner = SpinnerColumn(), TextColumn("{task.description} {task.completed:,} rows"), TimeElapsedColumn()
        console = Console(file=sys.stderr)
        bar = Progress(*spinner, console=console, transient=True, disable=not console.is_terminal)
        with bar as progress, closing(chosen.convert(rows)) as converted:
            task = progress.add_task("Importing", total=None)

            def counted() -> Iterator[Rollout]:
                for rollout in _checked(converted, report, image_folder or file.parent, output):
                    if report.rows % _SHOWN_EVERY == 0:
                        progress.update(task, completed=report.rows)
                    yield rollout

            facts = {"imported_from": file.name, "format": chosen.name}
            write_shards(counted(), output, rows_per_shard, facts)
    if report.rows == 0:
        raise InputError(f"no usable row in {file}; the first problem was: {report.first_skipped}.")
    print(*report.lines(), sep="\n", end="\n" if report.skipped else "")
    print(
        f"Done. {report.rows:,} completions of {report.num_prompts:,} prompts are in {output}; "
        f"{report.cut / report.rows:.1%} were cut by the limit."
    )


def _first_readable(source: Iterator[RawRow]) -> tuple[dict[str, Any] | None, Iterable[RawRow]]:
    """The fields of the first row that could be read, and all rows, from the first on."""
    head: list[RawRow] = []
    for row in source:
        head.append(row)
        if row.data is not None or len(head) == _LOOKED_AT:
            break
    return head[-1].data if head else None, chain(head, source)


def _problem(rows: Iterable[RawRow]) -> str:
    return next((f"{row.place}: {row.problem}" for row in rows), "it is empty")


def _choose(
    format: FormatName | AbstractFormat,
    first: dict[str, Any],
    file: Path,
    batch_input: Path | None,
    columns: dict[str, str] | None,
) -> AbstractFormat:
    """The format that was asked for, or the one that the options or the first row point to."""
    name: str = format if isinstance(format, str) else ""
    if name and name not in get_args(FormatName):
        raise InputError(f"`format` must be one of {', '.join(get_args(FormatName))} or a format, got {name!r}.")
    if name == "auto":
        pointed = [Columns.name] * (columns is not None) + [OpenAIBatch.name] * (batch_input is not None)
        recognised = [known.name for known in _FORMATS if known.recognises(first)]
        if not (pointed or recognised):
            signs = "; ".join(f"`{known.name}` by {known.sign}" for known in _FORMATS)
            raise InputError(
                f"the format of {file} is not known: its first row has {', '.join(map(repr, first)) or 'nothing'}, but "
                f"formats are recognised as {signs}. Name the columns with "
                "`--columns '{prompt: question, completion: answer}'`, or give another `--format`."
            )
        name = (pointed or recognised)[0]
    for option, value, owner in (("batch_input", batch_input, OpenAIBatch), ("columns", columns, Columns)):
        if value is not None and name != owner.name:
            raise InputError(
                f"`{option}` is for the format `{owner.name}`, but the format is {name or format!r}; drop one of them."
            )
    if isinstance(format, AbstractFormat):
        return format
    if name == OpenAIBatch.name:
        if batch_input is None:
            raise InputError(
                f"{file} is the output of an OpenAI batch, which does not hold the prompts; give the file that was "
                "uploaded with `--batch_input`."
            )
        return OpenAIBatch(batch_input=batch_input)
    return Columns(columns=columns) if name == Columns.name else Published()


def _checked(rows: Iterable[RawRow], report: ImportReport, images: Path, output: Path) -> Iterator[Rollout]:
    for row in rows:
        try:
            _check_storable(row.content)
            rollout = parse_rollout({**row.content, "images": _relocated(row.content.get("images"), images, output)})
        except BadRowError as error:
            report.refuse(row.place, str(error))
            continue
        report.take(rollout)
        yield rollout


def _check_storable(row: dict[str, Any]) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRowError("a text of the row is not valid Unicode") from error
    except (TypeError, ValueError) as error:
        raise BadRowError(f"a value of the row cannot be kept as JSON ({error})") from error


def _relocated(images: object, folder: Path, output: Path) -> list[str] | None:
    """Image paths from the output folder; what is no path but an address is left as it is."""
    if images is None or images == []:
        return None
    if not isinstance(images, list) or not all(isinstance(image, str) and image for image in images):
        raise BadRowError(f"`images` must be a list of paths, got {shown(images)}")
    found = []
    for image in images:
        if "://" in image or image.startswith("data:"):
            found.append(image)
            continue
        path = folder / image
        if not path.is_file():
            raise BadRowError(f"an image does not exist: {path}; `--image_folder` says what paths are relative to")
        found.append(os.path.relpath(path.resolve(), output.resolve()))
    return found

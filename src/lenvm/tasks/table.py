"""Prompts from any file with a column of them, or from any dataset of the hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lenvm.data.reading import RawRow, find_files, read_hub_rows, read_rows
from lenvm.data.rollout import FIELDS, BadRowError, Rollout, parse_prompt
from lenvm.errors import InputError
from lenvm.tasks.base import AbstractTask, Part, TaskPrompt, in_part
from lenvm.tasks.images import image_paths
from lenvm.tasks.templates import check_template, filled


@dataclass(frozen=True, kw_only=True)
class Table(AbstractTask):
    """The rows of a table: a prompt each, and what else a rollout row may have.

    Rows are read one at a time; one that is damaged is passed over and told of. Rows with equal prompts have the same
    prompt_id unless they bring their own. A tenth of the ids is `test`.

    Args:
        source: a JSON Lines, Parquet or CSV file (or .gz of the first and last), a folder of such files, or a dataset's
            name on the hub.
        columns: the column of each field of a rollout row, such as `prompt: question`; columns that are not named here
            are ignored. By default columns have the names of the fields.
        domain: the domain of rows that have none.
        template: put around prompts that are texts, with `{question}` where the prompt goes.
        split: the split that is read of a hub dataset.
        grader: the task that grades completions, such as GSM8K; left out, nothing is graded.
    """

    source: str
    columns: dict[str, str] | None = None
    domain: str | None = None
    template: str | None = None
    split: str = "train"
    grader: AbstractTask | None = None

    def __post_init__(self) -> None:
        if self.template is not None:
            check_template(self.template)
        if self.columns is not None:
            if unknown := sorted(set(self.columns) - set(FIELDS)):
                raise InputError(f"`columns` may name {', '.join(FIELDS)}, got {unknown[0]!r}.")
            if "prompt" not in self.columns:
                raise InputError(f"`columns` must say which column holds the `prompt`, got {self.columns}.")

    def prompts(self, part: Part, seed: int, domain: str | None = None) -> Iterator[TaskPrompt]:
        for number, (row, folder) in enumerate(self._rows()):
            try:
                rollout = self._rollout(row, folder, is_first=number == 0)
            except BadRowError as error:
                yield TaskPrompt(row.place, None, str(error))
                continue
            if in_part(rollout.prompt_id, part) and domain in (None, rollout.domain):
                yield TaskPrompt(row.place, rollout)

    def grade(self, prompt: Rollout, completion: str) -> bool | None:
        return None if self.grader is None else self.grader.grade(prompt, completion)

    def _rows(self) -> Iterator[tuple[RawRow, Path]]:
        path = Path(self.source).expanduser()
        files = find_files([path])
        if files is None and (path.is_absolute() or self.source.startswith((".", "~"))):
            raise InputError(f"{self.source} does not exist; expected a file, a folder, or a hub dataset's name.")
        if files is None:
            for row in read_hub_rows(self.source, self.split):
                yield row, Path.cwd()
            return
        for file in files:
            for row in read_rows([file]):
                yield row, file.parent.absolute()

    def _rollout(self, row: RawRow, folder: Path, *, is_first: bool) -> Rollout:
        names = self.columns or {name: name for name in FIELDS}
        if names["prompt"] not in row.content:
            problem = f"no column {names['prompt']!r}; present: {', '.join(sorted(row.content)) or 'none'}"
            if is_first:
                raise InputError(f"{row.place}: {problem}; name the right one, as in `columns: {{prompt: question}}`.")
            raise BadRowError(problem)
        if self.columns is not None and (missing := [c for c in names.values() if c not in row.content]):
            raise BadRowError(f"column {missing[0]!r} is missing; present: {', '.join(sorted(row.content))}")
        data = {name: row.content[column] for name, column in names.items() if column in row.content}
        data["prompt"] = self._prompt(data["prompt"])
        if data.get("domain") is None:
            data["domain"] = self.domain
        rollout = parse_prompt(data)
        metadata = data.get("metadata") if isinstance(data.get("metadata"), dict) else None
        if rollout.images:
            rollout = replace(rollout, images=image_paths(rollout.images, folder))
        return replace(rollout, domain=_text(rollout.domain), reference=_text(rollout.reference), metadata=metadata)

    def _prompt(self, prompt: Any) -> Any:
        if prompt is None or (isinstance(prompt, str) and not prompt.strip()):
            raise BadRowError("empty `prompt`")
        if self.template is None:
            return prompt
        if not isinstance(prompt, str):
            raise BadRowError("`template` is for prompts that are texts, and this one is a list of messages")
        return filled(self.template, prompt)


def _text(value: object) -> str | None:
    return None if value is None else str(value)

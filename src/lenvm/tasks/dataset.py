"""Tasks that read one dataset, from the hub or from a local copy of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lenvm.data.rollout import BadRowError, Prompt, Rollout, prompt_hash
from lenvm.errors import InputError
from lenvm.tasks.base import AbstractTask, Part, TaskPrompt, in_part
from lenvm.tasks.loading import load_split, missing_column, split_of_file
from lenvm.tasks.templates import check_template, filled


@dataclass(frozen=True, kw_only=True)
class AbstractDatasetTask(AbstractTask):
    """A task whose prompts are made of the rows of one dataset, in the dataset's order.

    The dataset is downloaded once and memory-mapped. Two rows with the same question have the same prompt_id.

    Attributes:
        config: name of the dataset's configuration on the hub.
        splits: the split of each part. `{"all": ...}`: the dataset is not divided, and the id decides.
        columns: what a row must have.
        optional_columns: what is used where a row has it.

    Args:
        source: the dataset's name on the hub, or a local folder or file with the same columns.
        revision: branch, tag or commit on the hub.
        template: the user's message, with `{question}` where the question goes.
        domain: the domain of all prompts.
    """

    config: ClassVar[str | None] = None
    splits: ClassVar[Mapping[Part, str]]
    columns: ClassVar[tuple[str, ...]]
    optional_columns: ClassVar[tuple[str, ...]] = ()

    source: str
    revision: str | None = None
    template: str
    domain: str

    def __post_init__(self) -> None:
        check_template(self.template)

    def prompts(self, part: Part, seed: int, domain: str | None = None) -> Iterator[TaskPrompt]:
        if domain not in (None, self.domain):
            return
        splits = self._splits()
        for split in self._splits_of(part):
            for place, row in self._rows(split):
                try:
                    for rollout in self._rollouts(row):
                        if "all" not in splits or in_part(rollout.prompt_id, part):
                            yield TaskPrompt(place, rollout)
                except BadRowError as error:
                    yield TaskPrompt(place, None, str(error))

    @abstractmethod
    def _rollouts(self, row: Mapping[str, Any]) -> Iterable[Rollout]:
        """The prompts of one row; none, if the task leaves such rows out.

        Raises:
            BadRowError: if the row cannot be used.
        """

    def _splits(self) -> Mapping[Part, str]:
        return self.splits

    def _splits_of(self, part: Part) -> list[str]:
        splits = self._splits()
        if "all" in splits or part == "all":
            every = list(splits.values())
            only = split_of_file(self.source, every)
            return every if only is None else [only]
        if part not in splits:
            there = " or ".join(f"`{name}`" for name in splits)
            raise InputError(f"{type(self).__name__} has no part `{part}`: it has {there}; choose that, or `all`.")
        return [splits[part]]

    def _rows(self, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for number, row in enumerate(self._dataset(split)):
            yield f"{self.source}, {split} row {number}", row

    def _dataset(self, split: str) -> Any:
        rows = load_split(
            self.source,
            split,
            splits=list(self._splits().values()),
            config=self.config,
            revision=self.revision,
            columns=[*self.columns, *self.optional_columns],
        )
        if missing := [name for name in self.columns if name not in rows.column_names]:
            raise InputError(missing_column(self.source, missing[0], rows.column_names))
        present = [name for name in self.optional_columns if name in rows.column_names]
        return rows.select_columns([*self.columns, *present])

    def _asked(self, question: str, **facts: Any) -> Rollout:
        """The prompt for a question."""
        prompt: Prompt = [{"role": "user", "content": filled(self.template, question)}]
        facts = {"prompt_id": prompt_hash(prompt), "domain": self.domain, **facts}
        return Rollout(prompt=prompt, **facts)


def text_in(row: Mapping[str, Any], column: str) -> str:
    """A text of a row.

    Raises:
        BadRowError: if it is no text, or an empty one.
    """
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadRowError(f"empty `{column}`")
    if not isinstance(value, str):
        raise BadRowError(f"`{column}` must be a text, got {type(value).__name__}")
    return value


def answer_in(row: Mapping[str, Any], column: str) -> str:
    """A reference answer of a row, which may be written as a number.

    Raises:
        BadRowError: if it is empty.
    """
    value = row.get(column)
    return str(value) if isinstance(value, int | float) else text_in(row, column).strip()

"""OpenCodeReasoning-2: programming tasks, whose texts lie in four other datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lenvm.data.rollout import BadRowError, Rollout, prompt_hash
from lenvm.errors import InputError
from lenvm.tasks.base import Part
from lenvm.tasks.dataset import AbstractDatasetTask, text_in
from lenvm.tasks.loading import load_split, missing_column
from lenvm.tasks.templates import PYTHON

_ELSEWHERE = "-"
_PARENTS = {
    "taco": "BAAI/TACO",
    # on the hub it is a script, which `datasets` 4 does not run any more; beside it lie its files
    "apps": "hf://datasets/codeparrot/apps/{split}.jsonl",
    "code_contests": "deepmind/code_contests",
    "open-r1/codeforces": "open-r1/codeforces",
}
_CODEFORCES = ("description", "input_format", "output_format", "examples", "note")
_COLUMNS = {
    "taco": ("question",),
    "apps": ("question",),
    "code_contests": ("description",),
    "open-r1/codeforces": _CODEFORCES,
}
_SPLITS = ("train", "valid", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class OpenCodeReasoning(AbstractDatasetTask):
    """OpenCodeReasoning-2 in Python, the paper's programming tasks; a tenth of them is `test`.

    The dataset has many solutions of each task, and `-` for its text, which is looked up in the dataset that the task
    comes from, by split and index. Each task is given once; to know them takes memory for about 35,000.

    Args:
        source: the dataset's name on the hub, or a local folder or file with `question`, `dataset`, `split` and
            `index`. A text other than `-` in `question` is taken as it is.
        revision: branch, tag or commit on the hub.
        template: the user's message, with `{question}` where the task goes; the authors' by default.
        domain: the domain of all prompts.
        parents: where to look up texts, for each name in the column `dataset`: a name on the hub, a local folder, or a
            file or `hf://` address with `{split}` in it. Names that are not given keep their default.
    """

    config: ClassVar[str | None] = "train"
    splits: ClassVar[Mapping[Part, str]] = {"all": "python"}
    columns: ClassVar[tuple[str, ...]] = ("question", "dataset", "split", "index")

    source: str = "nvidia/OpenCodeReasoning-2"
    template: str = PYTHON
    domain: str = "code"
    parents: dict[str, str] = field(default_factory=lambda: dict(_PARENTS))

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := sorted(set(self.parents) - set(_PARENTS)):
            raise InputError(f"`parents` may name {', '.join(_PARENTS)}, got {unknown[0]!r}.")

    def _rows(self, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Each task once: its row, with its parent's row under `parent` where the text has to be looked up."""
        seen: set[tuple[str, ...]] = set()
        loaded: dict[tuple[str, str], Any] = {}
        for place, row in super()._rows(split):
            is_elsewhere = row["question"] == _ELSEWHERE
            place_of_text = (row["dataset"], row["split"], row["index"])
            key = place_of_text if is_elsewhere else (prompt_hash(str(row["question"])),)
            if key not in seen:
                seen.add(key)
                yield place, ({**row, "parent": self._parent(row, loaded)} if is_elsewhere else row)

    def _parent(self, row: Mapping[str, Any], loaded: dict[tuple[str, str], Any]) -> Mapping[str, Any] | str:
        """The row that a task comes from, or what is wrong."""
        name, split, index = str(row["dataset"]), str(row["split"]), str(row["index"])
        if name not in _PARENTS:
            return f"`dataset` must be one of {', '.join(_PARENTS)}, got {name!r}"
        if not index.isdecimal():
            return f"`index` must be a row number, got {index!r}"
        if (name, split) not in loaded:
            loaded[name, split] = self._load_parent(name, split)
        rows = loaded[name, split]
        if int(index) >= len(rows):
            return f"`index` is {index}, and the split {split!r} of {name} has {len(rows)} rows"
        found: Mapping[str, Any] = rows[int(index)]
        return found

    def _load_parent(self, name: str, split: str) -> Any:
        source = self.parents.get(name, _PARENTS[name])
        rows = load_split(source, split, splits=_SPLITS, columns=_COLUMNS[name])
        needed, optional = _COLUMNS[name][0], _COLUMNS[name][1:]
        if needed not in rows.column_names:
            raise InputError(missing_column(source, needed, rows.column_names))
        return rows.select_columns([needed, *(column for column in optional if column in rows.column_names)])

    def _rollouts(self, row: Mapping[str, Any]) -> Iterable[Rollout]:
        parent = row.get("parent", row)
        if isinstance(parent, str):
            raise BadRowError(parent)
        yield self._asked(_question(parent))


def _question(parent: Mapping[str, Any]) -> str:
    """A task's text as the card of OpenCodeReasoning-2 puts it together."""
    if "description" not in parent:
        return text_in(parent, "question")
    parts = [text_in(parent, "description")]
    for title, column in (("Input", "input_format"), ("Output", "output_format")):
        if parent.get(column):
            parts.append(f"{title}\n\n{parent[column]}")
    if parent.get("examples"):
        parts.append("Examples")
        for example in parent["examples"]:
            given = [name for name in ("input", "output") if example.get(name) is not None]
            parts += [f"{name.title()}\n\n{example[name]}" for name in given]
    if parent.get("note"):
        parts.append(f"Note\n\n{parent['note']}")
    return "\n\n".join(parts)

"""MathVista: mathematics in pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lenvm.data.rollout import BadRowError, Rollout, prompt_hash
from lenvm.errors import InputError
from lenvm.tasks.base import Part
from lenvm.tasks.dataset import AbstractDatasetTask, answer_in, text_in
from lenvm.tasks.images import cached_image, image_paths
from lenvm.tasks.mathvista_grading import grade_mathvista
from lenvm.tasks.templates import MATH, OPEN_QUESTION, check_template, filled

_ASKED_FOR = {
    "integer": "Answer with an integer.",
    "float": "Answer with a number with one decimal place.",
    "float.2": "Answer with a number with two decimal places.",
    "list": "Answer with a Python list.",
}
_LETTER = "Answer with the option letter, e.g., A, B, C, D."


@dataclass(frozen=True, kw_only=True)
class MathVista(AbstractDatasetTask):
    """The 1,000 questions of MathVista's testmini. It has the part `test` only.

    `metadata` holds what the grader needs: question_type, answer_type, choices, precision and unit.

    Args:
        source: the dataset's name on the hub, a local folder or file with its columns, or `testmini.json` as its
            authors publish it.
        revision: branch, tag or commit on the hub.
        template: the user's message for multiple choice, with `{question}` where question and choices go.
        domain: the domain of all prompts.
        open_template: the user's message for free-form questions. By default what the authors' training data has; their
            evaluation puts these questions into `template` too.
        text_only: ask the questions without their images, as the benchmark's authors ask language models that cannot
            see; no image is looked for.
        images: folder that local `image` paths (`images/1.jpg`) are relative to; by default that of `source`.
        cache_dir: where images inside of the dataset are written as PNG files, once; by default the folder `lenvm` in
            the cache of `datasets`.
    """

    splits: ClassVar[Mapping[Part, str]] = {"test": "testmini"}
    columns: ClassVar[tuple[str, ...]] = ("question", "answer", "question_type", "answer_type")
    optional_columns: ClassVar[tuple[str, ...]] = ("image", "decoded_image", "choices", "unit", "precision")

    source: str = "AI4Math/MathVista"
    template: str = MATH
    domain: str = "visual_math"
    open_template: str = OPEN_QUESTION
    text_only: bool = False
    images: Path | None = None
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template(self.open_template, "open_template")

    def grade(self, prompt: Rollout, completion: str) -> bool | None:
        return grade_mathvista(prompt, completion)

    def _rows(self, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        rows = _by_pid(Path(self.source))
        if rows is None:
            yield from super()._rows(split)
            return
        for number, row in enumerate(rows):
            yield f"{self.source}, row {number}", row if isinstance(row, dict) else {}

    def _dataset(self, split: str) -> Any:
        import datasets

        rows = super()._dataset(split)
        if isinstance(rows.features.get("decoded_image"), datasets.Image):
            rows = rows.cast_column("decoded_image", datasets.Image(decode=False))
        return rows

    def _rollouts(self, row: Mapping[str, Any]) -> Iterable[Rollout]:
        choices = row.get("choices") or []
        is_choice = row.get("question_type") == "multi_choice"
        if is_choice and not (isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)):
            raise BadRowError("`choices` must be a list of texts")
        question = _worded(row, choices if is_choice else [])
        prompt = [{"role": "user", "content": filled(self.template if is_choice else self.open_template, question)}]
        reference, path = answer_in(row, "answer"), None if self.text_only else self._image(row)
        facts = {
            "question_type": row.get("question_type"),
            "answer_type": row.get("answer_type"),
            "choices": choices if is_choice else None,
            "precision": _whole(row.get("precision")),
            "unit": row.get("unit"),
        }
        picture: dict[str, Any] = {"image": row.get("image") or (path and Path(path).name)}
        yield Rollout(
            prompt=prompt,
            # many questions have the same text, and differ in their image alone
            prompt_id=prompt_hash([*prompt, picture]),
            domain=self.domain,
            reference=reference,
            images=None if path is None else [path],
            metadata={name: value for name, value in facts.items() if value is not None},
        )

    def _image(self, row: Mapping[str, Any]) -> str:
        if row.get("decoded_image") is not None:
            return cached_image(row["decoded_image"], self._cache())
        if not row.get("image"):
            raise BadRowError("no `image` and no `decoded_image`")
        source = Path(self.source).expanduser()
        folder = self.images or (source.parent if source.is_file() else source)
        return image_paths([row["image"]], folder.expanduser().absolute())[0]

    def _cache(self) -> Path:
        if self.cache_dir is not None:
            return self.cache_dir.expanduser().absolute()
        import datasets

        return Path(datasets.config.HF_DATASETS_CACHE).absolute() / "lenvm" / "mathvista"


def _by_pid(source: Path) -> list[Any] | None:
    """The rows of the authors' file, an object with one entry per question; None if `source` is something else."""
    source = source.expanduser()
    if not (source.is_file() and source.suffix == ".json"):
        return None
    try:
        rows = json.loads(source.read_text(encoding="utf-8"))
    except ValueError:
        return None  # JSON Lines, or damaged: the loader of datasets says which
    if not isinstance(rows, dict):
        return None
    if not rows:
        raise InputError(f"{source} is empty: expected at least one question.")
    return list(rows.values())


def _worded(row: Mapping[str, Any], choices: list[str]) -> str:
    """The question as the benchmark and the authors' evaluation put it."""
    question = f"Question: {text_in(row, 'question')}"
    if row.get("unit"):
        question += f" (Unit: {row['unit']})"
    if choices:
        lettered = "\n".join(f"({chr(ord('A') + number)}) {choice}" for number, choice in enumerate(choices))
        return f"{question}\n\n{_LETTER}\nChoices:\n{lettered}"
    kind = str(row.get("answer_type"))
    wanted = _ASKED_FOR.get("float.2" if kind == "float" and _whole(row.get("precision")) == 2 else kind)
    return f"{question}\n{wanted}" if wanted else question


def _whole(precision: Any) -> int | None:
    return int(precision) if isinstance(precision, int | float) and precision == precision else None

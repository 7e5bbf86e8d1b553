"""What a rule is: a pure function that re-weights the generator's candidates for the next token (DESIGN section 5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from torch import Tensor

from lenvm.decoding.rules.parameters import row_values
from lenvm.errors import InputError


@dataclass(frozen=True, kw_only=True)
class AbstractRule(ABC):
    """Turns the generator's distribution over candidates into one that steers the length.

    Rules are frozen dataclasses. A parameter that is a list, a tuple or a tensor of numbers has one entry per row of
    the batch; a plain number is for all rows. Rows never influence each other.

    Choosing a candidate when t tokens are written makes t + 1; an end-of-text token chosen then makes a completion of
    t + 1 tokens. A target of n tokens leaves r = max(n - (t + 1), 0) for after the candidate.
    """

    @abstractmethod
    def __call__(self, log_probs: Tensor, horizons: Tensor, mask: Tensor, generated: Tensor, gamma: float) -> Tensor:
        """The new distribution over the candidates.

        Args:
            log_probs: the generator's log-probabilities; (B, K), rows normalised over the candidates, -inf elsewhere.
            horizons: predicted `1 - gamma**remaining` after each candidate; (B, K), in [0, 1), and exactly 0 for an
                end-of-text candidate and for no other. In float64 where the device has it.
            mask: where there is a candidate; (B, K), at least one per row.
            generated: completion tokens already written; (B,).
            gamma: discount factor of the horizons.

        Returns:
            Log-probabilities, (B, K), in the type of `log_probs`: rows normalised, -inf outside the mask and wherever
            the rule leaves no probability.
        """

    def wants(self, log_probs: Tensor, mask: Tensor, generated: Tensor) -> Tensor:
        """The rows whose horizons this rule needs at this step; the others keep the generator's distribution.

        Args:
            log_probs: the generator's log-probabilities; (B, K).
            mask: where there is a candidate; (B, K).
            generated: completion tokens already written; (B,).

        Returns:
            (B,), bool. By default the rows with more than one candidate.
        """
        return mask.sum(-1) > 1

    def for_rows(self, index: Tensor) -> Self:
        """This rule for a selection of rows: what is per row is indexed, also inside other rules.

        Args:
            index: numbers of the rows, on the device where the rule will be used; (R,), integer.
        """
        return replace(self, **{name: _selected(value, index) for name, value in self._parameters().items()})

    @property
    def num_rows(self) -> int | None:
        """How many rows the per-row parameters are for; None if all rows have the same ones.

        Raises:
            InputError: if they disagree.
        """
        counts: dict[str, int] = {}
        for name, value in self._parameters().items():
            for rule in _rules(value):
                if (inner := rule.num_rows) is not None:
                    counts[f"{name}.{type(rule).__name__}"] = inner
            if _is_per_row(value):
                counts[name] = len(value)
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{count} for `{name}`" for name, count in counts.items())
            raise InputError(f"the per-row parameters of a rule need one value for every row, got {found} values.")
        return next(iter(counts.values()), None)

    def check(self, shortest: int | None, longest_possible: int) -> None:
        """Makes sure, before anything is written, that the rule's targets can be reached.

        Args:
            shortest: tokens of the shortest completion that the value model was trained on; None if unknown.
            longest_possible: tokens that fit into the context, or that the token limit allows.

        Raises:
            InputError: if a target lies below the one or above the other.
        """
        for value in self._parameters().values():
            for rule in _rules(value):
                rule.check(shortest, longest_possible)

    def _parameters(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _rules(value: object) -> list[AbstractRule]:
    """The rules that a parameter consists of; none for numbers and texts."""
    if isinstance(value, AbstractRule):
        return [value]
    return [v for v in value if isinstance(v, AbstractRule)] if isinstance(value, list | tuple) else []


def _is_per_row(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.dim() > 0
    return isinstance(value, list | tuple) and not _rules(value)


def _selected(value: Any, index: Tensor) -> Any:
    if isinstance(value, AbstractRule):
        return value.for_rows(index)
    if _rules(value):
        return [rule.for_rows(index) for rule in value]
    return row_values(value, index.device)[index] if _is_per_row(value) else value

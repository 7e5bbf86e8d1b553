"""What the trade-off comes to: a curve for every way of writing shorter, and how far tilting is above the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from lenvm.evaluation.statistics import Floats, percentile_interval, resampled_means
from lenvm.evaluation.tradeoff.area import Curves, area_between, shortest_shared
from lenvm.evaluation.tradeoff.outcomes import Outcome

AT_SHARE = 0.45
"""The share of plain sampling's tokens at which curves are read off."""

TILT, BUDGET = "tilt", "budget"


class Estimate(NamedTuple):
    """A number, with its interval over bootstrap resamples of prompts (95 %).

    Attributes:
        value: None where there is none.
        interval: None also where fewer than 95 % of the resamples have a value.
    """

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """The outcomes of one evaluation, on the same prompts in the same order.

    A curve is the points of one method and plain sampling, its strength 0. Everything is recomputed in each resample:
    plain sampling's length and accuracy, and all curves.

    Args:
        plain: plain sampling.
        tilts: by beta, none of which is 0.
        budgets: plain completions that are cut, by budget.
        baselines: other methods by name: one strength each, or several.
    """

    plain: Outcome
    tilts: dict[float, Outcome]
    budgets: dict[int, Outcome]
    baselines: dict[str, list[Outcome]]

    @property
    def tilts_with_plain(self) -> dict[float, Outcome]:
        """By ascending beta, plain sampling among them as 0."""
        return dict(sorted({**self.tilts, 0.0: self.plain}.items()))

    @cached_property
    def curves(self) -> dict[str, Curves]:
        """Shares of plain sampling's length, and accuracies; of all prompts in row 0, of resamples below; (R, K)."""
        groups = {
            TILT: [tilt for beta, tilt in self.tilts.items() if beta < 0],
            BUDGET: list(self.budgets.values()),
            **self.baselines,
        }
        return {name: self._curves([*outcomes, self.plain]) for name, outcomes in groups.items()}

    def _curves(self, outcomes: Sequence[Outcome]) -> Curves:
        # in one go, so that the same prompts are drawn for lengths and accuracies
        columns = [outcome.lengths for outcome in outcomes] + [outcome.rights for outcome in outcomes]
        means = resampled_means(np.stack(columns, axis=1))
        lengths, rights = np.split(means, 2, axis=1)
        return Curves.through(lengths / lengths[:, -1:], rights)

    def area(self, other: str) -> Estimate:
        """How far the tilt's curve is above another's, on average from the shortest length of both to plain's."""
        return _estimate(area_between(self.curves[TILT], self.curves[other]))

    def area_from(self, other: str) -> float:
        """Where that area begins, as a share of plain sampling's length."""
        return float(shortest_shared(self.curves[TILT], self.curves[other])[0])

    def accuracy(self, name: str) -> Estimate:
        """The accuracy of a curve at `AT_SHARE` of plain sampling's length."""
        return _estimate(self.curves[name].height(AT_SHARE))

    def share(self, name: str) -> Estimate:
        """The same as a share of plain sampling's accuracy; no value where that is 0."""
        plain = resampled_means(self.plain.rights[:, None])[:, 0]
        heights = self.curves[name].height(AT_SHARE)
        return _estimate(np.where(plain > 0, heights / np.where(plain > 0, plain, 1.0), np.nan))

    def missing(self, name: str) -> str | None:
        """Why there is no `share` of this curve; None if there is one."""
        shortest = float(self.curves[name].x[0, 0])
        if shortest > AT_SHARE:
            return f"not below {shortest:.1%} of the plain length"
        return "no plain completion is right" if self.plain.accuracy == 0 else None

    def summary(self) -> dict[str, Any]:
        """The comparison as JSON; `accuracy_at_45_percent` are shares of plain sampling's accuracy."""
        names, at = list(self.curves), f"{AT_SHARE:.0%}".replace("%", "_percent")
        area, shares = self.area(BUDGET), {name: self.share(name) for name in names}
        heights = {name: self.accuracy(name) for name in names}
        return {
            "area": area.value,
            "area_ci": area.interval,
            "area_from": self.area_from(BUDGET),
            "areas_to_baselines": {
                name: {"area": found.value, "area_ci": found.interval, "area_from": self.area_from(name)}
                for name, found in ((name, self.area(name)) for name in self.baselines)
            },
            f"accuracy_at_{at}": {name: found.value for name, found in shares.items()},
            f"accuracy_at_{at}_ci": {name: found.interval for name, found in shares.items()},
            f"absolute_accuracy_at_{at}": {name: found.value for name, found in heights.items()},
            f"absolute_accuracy_at_{at}_ci": {name: found.interval for name, found in heights.items()},
            f"missing_at_{at}": {name: why for name in names if (why := self.missing(name))},
        }


def _estimate(values: Floats) -> Estimate:
    """Of a value of all prompts, and then one per resample; (1 + R,)."""
    value = float(values[0])
    return Estimate(None, None) if np.isnan(value) else Estimate(value, percentile_interval(values[1:]))

"""The plain alternative to a value: a transformer that regresses the number of tokens to come, without discount."""

from __future__ import annotations

from collections.abc import Callable

from lenvm.evaluation.prompt_boundary.predictors.base import AbstractLengthPredictor, Floats, PromptTable
from lenvm.models import LengthValueModel


class RemainingLengthRegressor(AbstractLengthPredictor):
    """A model of the same kind as the value model, whose target is the remaining length itself or its logarithm.

    Args:
        load: gives the model, trained on completions of training prompts; called by `fit`, for it may be dear.
    """

    name = "non-discounted regressor"

    def __init__(self, load: Callable[[], LengthValueModel]) -> None:
        self._load = load

    def fit(self, table: PromptTable) -> None:
        # it learns from every token of the completions, of which the table has the number alone
        del table
        self.model = self._load()

    def predict(self, table: PromptTable) -> Floats:
        return self.model.predict_length(table.token_ids).double().numpy()

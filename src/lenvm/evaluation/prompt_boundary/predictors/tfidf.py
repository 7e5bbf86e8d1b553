"""The words of the prompt."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline

from lenvm.evaluation.prompt_boundary.predictors.base import (
    AbstractLengthPredictor,
    Floats,
    PromptTable,
    on_log_length,
)


class TfidfRidge(AbstractLengthPredictor):
    """Ridge regression of log completion length on TF-IDF features of the prompt; the penalty is cross-validated."""

    name = "TF-IDF + ridge"

    def fit(self, table: PromptTable) -> None:
        # words of one prompt teach nothing, unless there are few prompts
        min_df = 2 if len(table.texts) > 100 else 1
        features = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=min_df, max_features=100_000)
        model = make_pipeline(features, RidgeCV(alphas=(0.1, 0.3, 1.0, 3.0, 10.0)))
        self.model = on_log_length(model).fit(np.asarray(table.texts, dtype=object), table.lengths)

    def predict(self, table: PromptTable) -> Floats:
        return np.asarray(self.model.predict(np.asarray(table.texts, dtype=object)))

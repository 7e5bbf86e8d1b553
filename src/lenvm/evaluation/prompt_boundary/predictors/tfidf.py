"""The words of the prompt."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from lenvm.evaluation.prompt_boundary.predictors.base import (
    AbstractLengthPredictor,
    Floats,
    PromptTable,
    on_log_length,
)

_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
_FOLDS = 5


class TfidfRidge(AbstractLengthPredictor):
    """Ridge regression of log completion length on TF-IDF features of the prompt.

    The penalty is cross-validated (five folds). The features stay sparse, in the solver too: memory grows with the
    words that there are, not with prompts times features.
    """

    name = "TF-IDF + ridge"

    def fit(self, table: PromptTable) -> None:
        # words of one prompt teach nothing, unless there are few prompts
        min_df = 2 if len(table.texts) > 100 else 1
        features = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=min_df, max_features=100_000)
        ridge = Ridge(solver="sparse_cg", tol=1e-5)
        if len(table.texts) >= _FOLDS:
            folds = KFold(_FOLDS, shuffle=True, random_state=0)
            ridge = GridSearchCV(ridge, {"alpha": _PENALTIES}, scoring="neg_mean_squared_error", cv=folds)
        model = on_log_length(make_pipeline(features, ridge))
        self.model = model.fit(np.asarray(table.texts, dtype=object), table.lengths)

    def predict(self, table: PromptTable) -> Floats:
        return np.asarray(self.model.predict(np.asarray(table.texts, dtype=object)))

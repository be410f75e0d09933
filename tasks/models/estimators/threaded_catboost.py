"""CatBoost's estimators with the ways of the others: silent, with their own threads, and with importances as shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from catboost import CatBoostClassifier, CatBoostRegressor


class _Threaded:
    """What both estimators share. CatBoost's own predict with every core, whatever number of threads fits them.

    Args: threads: of the fit and of predictions; it does not change results. settings: CatBoost's own.
    """

    def __init__(self, threads: int, **settings: Any) -> None:
        super().__init__(  # type: ignore[call-arg]
            **settings, thread_count=threads, verbose=False, allow_writing_files=False, allow_const_label=True
        )
        self.threads = threads

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predicts classes, shape (n_rows, 1), or values, shape (n_rows,). Args: x: shape (n_rows, n_features)."""
        return super().predict(x, thread_count=self.threads)  # type: ignore[misc]

    @property
    def feature_importances_(self) -> np.ndarray:
        """The change of the prediction by each feature's splits, as shares that add up to 1, shape (n_features,)."""
        percent = self.get_feature_importance(thread_count=self.threads)  # type: ignore[attr-defined]
        return np.nan_to_num(percent) / 100  # NaN for trees without a split


class ThreadedCatBoostClassifier(_Threaded, CatBoostClassifier):
    """CatBoostClassifier with the threads that it is given."""

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Each class's probability, shape (n_rows, n_classes). Args: x: shape (n_rows, n_features)."""
        return super().predict_proba(x, thread_count=self.threads)


class ThreadedCatBoostRegressor(_Threaded, CatBoostRegressor):
    """CatBoostRegressor with the threads that it is given."""

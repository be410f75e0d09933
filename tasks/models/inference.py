"""Predictions of fitted estimators, in one form for all models. This module sees arrays, not files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions for n_rows rows."""

    values: dict[str, np.ndarray]  # by task: genre codes (int64) or popularity points (float64), shape (n_rows,)
    probabilities: np.ndarray | None  # shape (n_rows, n_genres), columns by genre code; None: the model has none

    def rows(self, rows: slice) -> Predicted:
        """Returns the predictions for some of the rows."""
        values = {task: values[rows] for task, values in self.values.items()}
        return Predicted(values, None if self.probabilities is None else self.probabilities[rows])


def predict(estimator: Any, spec: ModelSpec, x: np.ndarray, n_genres: int) -> Predicted:
    """Predicts every task of a model and, where the model has them, the genres' probabilities, in one pass.

    Args: x: shape (n_rows, n_features), standardized as in training. n_genres: the number of genres in the mapping.
    """
    if spec.task == "multitask":
        return _of_both(estimator.outputs(x), n_genres)
    if spec.task == "genre" and hasattr(estimator, "predict_proba"):
        found = estimator.predict_proba(x)
        return _of_genres(found, getattr(estimator, "classes_", np.arange(found.shape[1])), n_genres)
    return Predicted({spec.task: _as_values(spec.task, estimator.predict(x))}, None)


def held_out(estimator: Any, n_genres: int) -> Predicted:
    """Returns the out-of-fold predictions for the validation rows that a model that cross-fits was fitted on."""
    return _of_both(estimator.held_out, n_genres)


def join(parts: list[Predicted]) -> Predicted:
    """Concatenates the predictions for parts of the rows."""
    if len(parts) == 1:
        return parts[0]
    values = {task: np.concatenate([part.values[task] for part in parts]) for task in parts[0].values}
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    return Predicted(values, np.concatenate(probabilities) if probabilities else None)


def predict_values(estimator: Any, spec: ModelSpec, x: np.ndarray) -> dict[str, np.ndarray]:
    """Predicts as `predict` does, without probabilities. Returns: predictions by task, shape (n_rows,)."""
    predicted = estimator.predict(x)
    by_task = predicted if spec.task == "multitask" else {spec.task: predicted}
    return {task: _as_values(task, values) for task, values in by_task.items()}


def _of_both(outputs: dict[str, np.ndarray], n_genres: int) -> Predicted:
    """Returns the predictions of a multi-task model, given its probabilities and its popularity points."""
    genres = _of_genres(outputs["genre"], np.arange(n_genres), n_genres)
    return Predicted(genres.values | {"popularity": outputs["popularity"]}, genres.probabilities)


def _of_genres(found: np.ndarray, codes: np.ndarray, n_genres: int) -> Predicted:
    probabilities = np.zeros((len(found), n_genres))  # `found` has no column for a genre without training rows
    probabilities[:, codes[: found.shape[1]]] = found
    return Predicted({"genre": probabilities.argmax(axis=1)}, probabilities)


def _as_values(task: str, predicted: Any) -> np.ndarray:
    return np.asarray(predicted).ravel().astype(np.int64 if task == "genre" else np.float64)

"""Several models as one: the weighted mean of what they predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

BySplit = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An unfitted model of an ensemble."""

    estimator: Any
    weight: float
    is_multitask: bool  # whether it learns from both targets, by split, and predicts both


@dataclass(frozen=True, slots=True)
class MeanEnsemble:
    """The weighted mean of the members' class probabilities (genre) or predictions (popularity)."""

    task: str  # genre or popularity
    members: tuple[Member, ...]

    def fit(self, x: BySplit, genre: BySplit, popularity: BySplit) -> None:
        """Fit each member on split `train`; multi-task members watch split `val` too.

        Args: by split: x (n_rows, n_features); genre (n_rows,) codes from 0; popularity (n_rows,) 0 to 100.
        """
        own = genre if self.task == "genre" else popularity
        for member in self.members:
            if member.is_multitask:
                member.estimator.fit(x, genre, popularity)
            else:
                member.estimator.fit(x["train"], own["train"])

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Genre codes or popularity, (n_rows,). Args: x: (n_rows, n_features)."""
        if self.task == "genre":
            return self.predict_proba(x).argmax(axis=1)
        predicted = ((member, member.estimator.predict(x)) for member in self.members)
        return self._mean([values[self.task] if member.is_multitask else values for member, values in predicted])

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Each genre's probability, (n_rows, n_classes), by code. Args: x: (n_rows, n_features)."""
        return self._mean([member.estimator.predict_proba(x) for member in self.members])

    def _mean(self, predicted: list[np.ndarray]) -> np.ndarray:
        return np.average(predicted, axis=0, weights=[member.weight for member in self.members])

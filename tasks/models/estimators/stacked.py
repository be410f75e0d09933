"""An ensemble that averages the predictions of several models, with weights fitted on the validation split."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import nnls

BySplit = dict[str, np.ndarray]
EM_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One model of an ensemble, not yet fitted."""

    estimator: Any
    is_multitask: bool  # whether it is fitted on both targets, by split, and predicts both


@dataclass(slots=True)
class StackedEnsemble:
    """The weighted mean of the members' class probabilities (genre) or predictions (popularity).

    The weights are not negative. On the validation split they have the highest likelihood (genre) or the least squared
    error (popularity), because the members that help depend on the protocol. Scores on the validation split are
    therefore slightly too good; scores on the test split are not.
    Source: Breiman (1996), Stacked Regressions; Dempster, Laird and Rubin (1977) for the weights of a mixture.
    """

    task: str  # genre or popularity
    members: tuple[Member, ...]
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False)  # (n_members,), of sum 1

    def fit(self, x: BySplit, genre: BySplit, popularity: BySplit) -> None:
        """Fits each member on split `train` and the weights on split `val`, which multi-task members use to stop early.

        Args: x, genre, popularity: by split: (n_rows, n_features); (n_rows,) codes from 0; (n_rows,) 0 to 100.
        """
        own = genre if self.task == "genre" else popularity
        for member in self.members:
            if member.is_multitask:
                member.estimator.fit(x, genre, popularity)
            else:
                member.estimator.fit(x["train"], own["train"])
        predicted = self._predicted(x["val"])
        if self.task == "genre":
            self.weights = mixture_weights(predicted[:, np.arange(len(own["val"])), own["val"]])
        else:
            weights, _ = nnls(predicted.T, own["val"])
            self.weights = weights / weights.sum()

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predicts genre codes or popularity, shape (n_rows,). Args: x: shape (n_rows, n_features)."""
        if self.task == "genre":
            return self.predict_proba(x).argmax(axis=1)
        return np.tensordot(self.weights, self._predicted(x), axes=1)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Each genre's probability, (n_rows, n_classes), by code. Args: x: (n_rows, n_features)."""
        return np.tensordot(self.weights, self._predicted(x), axes=1)

    def _predicted(self, x: np.ndarray) -> np.ndarray:
        """Each member's probabilities (n_members, n_rows, n_classes), or its popularity points (n_members, n_rows)."""
        if self.task == "genre":
            return np.stack([member.estimator.predict_proba(x) for member in self.members])
        predicted = ((member, member.estimator.predict(x)) for member in self.members)
        return np.stack([values[self.task] if member.is_multitask else values for member, values in predicted])


def mixture_weights(likelihoods: np.ndarray) -> np.ndarray:
    """Fits the weights of a mixture by maximum likelihood, with expectation maximization.

    Args: likelihoods: shape (n_members, n_rows), the probability that each member gives to a row's true class.

    Returns: weights that add up to 1, shape (n_members,).
    """
    weights = np.full(len(likelihoods), 1.0 / len(likelihoods))
    likelihoods = np.clip(likelihoods, np.finfo(np.float64).tiny, None)
    for _ in range(EM_STEPS):
        shares = weights[:, None] * likelihoods
        weights = (shares / shares.sum(axis=0)).mean(axis=1)
    return weights

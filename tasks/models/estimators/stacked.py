"""An ensemble that averages the predictions of several models, with weights fitted on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import nnls
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.model_selection import GroupKFold

BySplit = dict[str, np.ndarray]
EM_STEPS = 200
LEAST_WEIGHT = 0.01  # a candidate with less is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A kind of model that an ensemble may contain."""

    name: str
    build: Callable[[int], Any]  # returns an unfitted estimator, given a seed
    is_multitask: bool  # whether it is fitted on both targets, watches held-out rows, and predicts both targets


@dataclass(frozen=True, slots=True)
class Member:
    """A candidate's part in a fitted ensemble."""

    name: str
    weight: float  # 0 if it was left out; all add up to 1
    out_of_fold: float  # accuracy, or RMSE in points, of its own out-of-fold predictions


@dataclass(slots=True)
class StackedEnsemble:
    """The weighted mean of several models' class probabilities (genre) or predictions (popularity).

    The rows of splits `train` and `val` are cut into folds. Each candidate is fitted once for each fold, to the rows of
    the other folds, and predicts the fold's rows. The weights are fitted on these out-of-fold predictions: they are not
    negative and have the highest likelihood (genre), or the least squared error before they are scaled to add up to 1
    (popularity). Candidates of nearly no weight are left out. A member's prediction for a new row is the mean over its
    fits, as in k-fold bagging: nothing is fitted again to all rows.

    Folds keep groups whole. A multi-task candidate watches its fold to stop early, so its out-of-fold predictions are
    slightly too good.
    Source: Breiman (1996), Stacked Regressions, and (1996), Bagging Predictors; Dempster, Laird and Rubin (1977) for
    the weights of a mixture.
    """

    task: str  # genre or popularity
    candidates: tuple[Candidate, ...]
    folds: int
    seed: int
    ensemble_members: list[Member] = field(default_factory=list, init=False)  # one for each candidate
    held_out: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False)  # out-of-fold, of split `val`
    _fold: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int), init=False)  # of each row of `val`
    _kept: list[tuple[float, list[_Fit]]] = field(default_factory=list, init=False)  # a member's weight, and its fits
    _n_classes: int = field(default=0, init=False)

    def fit(self, x: BySplit, genre: BySplit, popularity: BySplit, units: BySplit) -> None:
        """Fits each candidate once for each fold, and the weights. The rows must be of two groups or more.

        Args: x, genre, popularity, units: by split: (n_rows, n_features); (n_rows,) codes from 0; (n_rows,) 0 to 100;
            (n_rows,) the group of each row.
        """
        rows, codes, points, groups = (
            np.concatenate([part["train"], part["val"]]) for part in (x, genre, popularity, units)
        )
        truth = codes if self.task == "genre" else points
        self._n_classes = int(codes.max()) + 1
        names, numbers = np.unique(groups, return_inverse=True)
        shuffled = np.random.default_rng(self.seed).permutation(len(names))[numbers]  # GroupKFold orders equal groups
        folds = [*GroupKFold(min(self.folds, len(names))).split(rows, groups=shuffled)]
        number_of = np.empty(len(rows), dtype=int)
        for number, (_, fold) in enumerate(folds):
            number_of[fold] = number
        self._fold = number_of[len(x["train"]) :]
        predicted = np.zeros((len(self.candidates), len(rows), *([self._n_classes] if self.task == "genre" else [])))
        fits: list[list[_Fit]] = []
        for candidate, found in zip(self.candidates, predicted, strict=True):
            fits.append([])
            for number, (inside, fold) in enumerate(folds):
                targets = [{"train": part[inside], "val": part[fold]} for part in (codes, points)]
                fit = self._fit(candidate, self.seed + number, {"train": rows[inside], "val": rows[fold]}, *targets)
                found[fold] = self._predicted(fit, rows[fold])
                fits[-1].append(fit)
        weights = _weights(self.task, predicted, truth)
        self.held_out = np.tensordot(weights, predicted, axes=1)[len(x["train"]) :]
        self.ensemble_members = [
            Member(candidate.name, float(weight), _score(self.task, truth, found))
            for candidate, weight, found in zip(self.candidates, weights, predicted, strict=True)
        ]
        self._kept = [(weight, of) for weight, of in zip(weights, fits, strict=True) if weight]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predicts genre codes or popularity, shape (n_rows,). Args: x: shape (n_rows, n_features)."""
        return self.predict_proba(x).argmax(axis=1) if self.task == "genre" else self._mean(x)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Each genre's probability, (n_rows, n_classes), by code. Args: x: (n_rows, n_features)."""
        return self._mean(x)

    def predict_out_of_fold(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Predicts rows of split `val` as `predict` does, but each by the fits that did not see it.

        Args: x: (n_rows, n_features), with their values or changed ones. rows: (n_rows,), their numbers in the split.
        """
        found = np.zeros((len(x), self._n_classes) if self.task == "genre" else len(x))
        for number in np.unique(self._fold[rows]):
            fold = self._fold[rows] == number
            found[fold] = sum(weight * self._predicted(fits[number], x[fold]) for weight, fits in self._kept)
        return found.argmax(axis=1) if self.task == "genre" else found

    def _fit(self, candidate: Candidate, seed: int, x: BySplit, genre: BySplit, popularity: BySplit) -> _Fit:
        estimator = candidate.build(seed)
        if candidate.is_multitask:
            estimator.fit(x, genre, popularity)
            return _Fit(estimator, True, np.arange(self._n_classes))
        if self.task == "popularity":
            estimator.fit(x["train"], popularity["train"])
            return _Fit(estimator, False, np.arange(0))
        codes, classes = np.unique(genre["train"], return_inverse=True)  # a genre may be in the fold alone
        estimator.fit(x["train"], classes)
        return _Fit(estimator, False, codes)

    def _predicted(self, fit: _Fit, x: np.ndarray) -> np.ndarray:
        """Returns one fit's probabilities (n_rows, n_classes), or its popularity points (n_rows,)."""
        if self.task == "popularity":
            found = fit.estimator.predict(x)
            return np.asarray(found[self.task] if fit.is_multitask else found)
        known = fit.estimator.predict_proba(x)
        shares = np.zeros((len(x), self._n_classes))
        codes = fit.codes[: known.shape[1]]
        shares[:, codes] = known if len(codes) > 1 else 1.0  # some libraries have two columns for a single genre
        return shares

    def _mean(self, x: np.ndarray) -> np.ndarray:
        """Returns the weighted mean of the members' predictions, each the mean over its fits."""
        return sum(weight * np.mean([self._predicted(fit, x) for fit in fits], axis=0) for weight, fits in self._kept)


@dataclass(frozen=True, slots=True)
class _Fit:
    """A candidate fitted to the rows outside one fold."""

    estimator: Any
    is_multitask: bool
    codes: np.ndarray  # of the genres that it knows, in the order of its probabilities


def _weights(task: str, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the candidates' weights, which add up to 1: those that fit best; 0 for less than LEAST_WEIGHT."""

    def fitted(chosen: np.ndarray) -> np.ndarray:
        weights = np.zeros(len(predicted))
        if task == "genre":
            weights[chosen] = mixture_weights(predicted[chosen][:, np.arange(len(truth)), truth])
        else:
            weights[chosen], _ = nnls(predicted[chosen].T, truth)
        # None helps if all that is true, or predicted, is 0.
        return weights / weights.sum() if weights.any() else np.full(len(predicted), 1.0 / len(predicted))

    return fitted(np.flatnonzero(fitted(np.arange(len(predicted))) >= LEAST_WEIGHT))


def _score(task: str, truth: np.ndarray, predicted: np.ndarray) -> float:
    if task == "genre":
        return float(accuracy_score(truth, predicted.argmax(axis=1)))
    return float(root_mean_squared_error(truth, predicted))


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

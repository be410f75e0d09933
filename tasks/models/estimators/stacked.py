"""An ensemble that averages the predictions of several models, with weights fitted on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import nnls
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.model_selection import GroupKFold

from tasks.models.spec import TARGETS
from tasks.specs import Task

BySplit = dict[str, np.ndarray]
ByTask = dict[Task, np.ndarray]  # probabilities (n_rows, n_classes) or codes (n_rows,); popularity points (n_rows,)
EM_STEPS = 200
LEAST_WEIGHT = 0.01  # a candidate with less is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A kind of model that an ensemble may contain."""

    name: str
    task: Task  # a multi-task one is fitted on both targets, watches held-out rows, and predicts both targets
    build: Callable[[int], Any]  # returns an unfitted estimator, given a seed


@dataclass(frozen=True, slots=True)
class Member:
    """A candidate's part in a fitted ensemble's predictions of one task."""

    task: Task  # genre or popularity
    name: str
    weight: float  # 0 if it was left out; all of a task add up to 1
    out_of_fold: float  # accuracy, or RMSE in points, of its own out-of-fold predictions


@dataclass(slots=True)
class StackedEnsemble:
    """The weighted means of several models' class probabilities (genre) and predictions (popularity).

    The rows of splits `train` and `val` are cut into folds. Each candidate is fitted once for each fold, to the rows of
    the other folds, and predicts the fold's rows. The weights are fitted on these out-of-fold predictions, separately
    for each task: they are not negative and have the highest likelihood (genre), or the least squared error before they
    are scaled to add up to 1 (popularity). Candidates of nearly no weight are left out. A member's prediction for a new
    row is the mean over its fits, as in k-fold bagging: nothing is fitted again to all rows.

    Folds keep groups whole. A multi-task candidate watches its fold to stop early, so its out-of-fold predictions are
    slightly too good.
    Source: Breiman (1996), Stacked Regressions, and (1996), Bagging Predictors; Dempster, Laird and Rubin (1977) for
    the weights of a mixture.
    """

    candidates: tuple[Candidate, ...]  # of each task one or more, which may be multi-task
    folds: int
    seed: int
    ensemble_members: list[Member] = field(default_factory=list, init=False)  # one for each task and its candidate
    held_out: ByTask = field(default_factory=dict, init=False)  # the `outputs` of split `val`, out of fold
    _fold: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int), init=False)  # of each row of `val`
    _kept: list[_Kept] = field(default_factory=list, init=False)
    _n_classes: int = field(default=0, init=False)

    def fit(self, x: BySplit, genre: BySplit, popularity: BySplit, units: BySplit) -> None:
        """Fits each candidate once for each fold, and the weights. The rows must be of two groups or more.

        Args: x, genre, popularity, units: by split: (n_rows, n_features); (n_rows,) codes from 0; (n_rows,) 0 to 100;
            (n_rows,) the group of each row.
        """
        rows, codes, points, groups = (
            np.concatenate([part["train"], part["val"]]) for part in (x, genre, popularity, units)
        )
        self._n_classes, self.ensemble_members = int(codes.max()) + 1, []
        names, numbers = np.unique(groups, return_inverse=True)
        shuffled = np.random.default_rng(self.seed).permutation(len(names))[numbers]  # GroupKFold orders equal groups
        folds = [*GroupKFold(min(self.folds, len(names))).split(rows, groups=shuffled)]
        number_of = np.empty(len(rows), dtype=int)
        for number, (_, fold) in enumerate(folds):
            number_of[fold] = number
        self._fold = number_of[len(x["train"]) :]
        every = [_Kept() for _ in self.candidates]
        predicted = [self._zeros(len(rows)) for _ in self.candidates]
        for candidate, kept, found in zip(self.candidates, every, predicted, strict=True):
            for number, (inside, fold) in enumerate(folds):
                parts = [{"train": part[inside], "val": part[fold]} for part in (rows, codes, points)]
                fit = self._fit(candidate, self.seed + number, *parts)
                for task, values in fit.outputs(rows[fold]).items():
                    found[task][fold] = values
                kept.fits.append(fit)
        for task, truth in zip(TARGETS, (codes, points), strict=True):
            chosen = [n for n, one in enumerate(self.candidates) if one.task in {task, "multitask"}]
            of_task = np.array([predicted[number][task] for number in chosen])
            weights = _weights(task, of_task, truth)
            self.held_out[task] = np.tensordot(weights, of_task, axes=1)[len(x["train"]) :]
            for number, weight, alone in zip(chosen, weights, of_task, strict=True):
                member = Member(task, self.candidates[number].name, float(weight), _score(task, truth, alone))
                self.ensemble_members.append(member)
                if weight:
                    every[number].weights[task] = weight
        self._kept = [kept for kept in every if kept.weights]

    def predict(self, x: np.ndarray) -> ByTask:
        """Predicts genre codes and popularity points, by task, (n_rows,). Args: x: shape (n_rows, n_features)."""
        return _values(self.outputs(x))

    def outputs(self, x: np.ndarray) -> ByTask:
        """Predicts both tasks in one pass. Args: x: shape (n_rows, n_features).

        Returns: by task: genre probabilities (n_rows, n_classes), popularity points (n_rows,).
        """
        return self._mean(x, slice(None))

    def predict_out_of_fold(self, x: np.ndarray, rows: np.ndarray) -> ByTask:
        """Predicts rows of split `val` as `predict` does, but each by the fits that did not see it.

        Args: x: (n_rows, n_features), with their values or changed ones. rows: (n_rows,), their numbers in the split.
        """
        found = self._zeros(len(x))
        for number in np.unique(self._fold[rows]):
            fold = self._fold[rows] == number
            for task, values in self._mean(x[fold], slice(number, number + 1)).items():
                found[task][fold] = values
        return _values(found)

    def _fit(self, candidate: Candidate, seed: int, x: BySplit, genre: BySplit, popularity: BySplit) -> _Fit:
        estimator, codes = candidate.build(seed), np.arange(self._n_classes)
        if candidate.task == "multitask":
            estimator.fit(x, genre, popularity)
        elif candidate.task == "popularity":
            estimator.fit(x["train"], popularity["train"])
        else:
            codes, classes = np.unique(genre["train"], return_inverse=True)  # a genre may be in the fold alone
            estimator.fit(x["train"], classes)
        return _Fit(estimator, candidate.task, codes, self._n_classes)

    def _zeros(self, n_rows: int) -> ByTask:
        return {"genre": np.zeros((n_rows, self._n_classes)), "popularity": np.zeros(n_rows)}

    def _mean(self, x: np.ndarray, folds: slice) -> ByTask:
        """Returns the weighted means of the members' outputs, each the mean over its fits of some folds."""
        means = self._zeros(len(x))
        for kept in self._kept:
            found = [fit.outputs(x) for fit in kept.fits[folds]]
            for task, weight in kept.weights.items():
                means[task] += weight * np.mean([outputs[task] for outputs in found], axis=0)
        return means


@dataclass(frozen=True, slots=True)
class _Kept:
    """A candidate that the ensemble contains."""

    fits: list[_Fit] = field(default_factory=list)  # one for each fold
    weights: dict[Task, np.float64] = field(default_factory=dict)  # above 0; of the tasks in which it has a part


@dataclass(frozen=True, slots=True)
class _Fit:
    """A candidate fitted to the rows outside one fold."""

    estimator: Any
    task: Task
    codes: np.ndarray  # of the genres that it knows, in the order of its probabilities
    n_classes: int

    def outputs(self, x: np.ndarray) -> ByTask:
        """Returns its probabilities (n_rows, n_classes), its popularity points (n_rows,), or both, by task."""
        if self.task == "popularity":
            return {"popularity": np.asarray(self.estimator.predict(x))}
        if self.task == "genre":
            return {"genre": self._shares(self.estimator.predict_proba(x))}
        found = self.estimator.outputs(x)
        return {"genre": self._shares(found["genre"]), "popularity": found["popularity"]}

    def _shares(self, known: np.ndarray) -> np.ndarray:
        shares = np.zeros((len(known), self.n_classes))
        codes = self.codes[: known.shape[1]]
        shares[:, codes] = known if len(codes) > 1 else 1.0  # some libraries have two columns for a single genre
        return shares


def _values(outputs: ByTask) -> ByTask:
    return {"genre": outputs["genre"].argmax(axis=1), "popularity": outputs["popularity"]}


def _weights(task: Task, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the weights that fit best, (n_candidates,), which add up to 1; 0 for less than LEAST_WEIGHT."""

    def fitted(chosen: np.ndarray) -> np.ndarray:
        weights = np.zeros(len(predicted))
        if task == "genre":
            weights[chosen] = mixture_weights(predicted[chosen][:, np.arange(len(truth)), truth])
        else:
            weights[chosen], _ = nnls(predicted[chosen].T, truth)
        # None helps if all that is true, or predicted, is 0.
        return weights / weights.sum() if weights.any() else np.full(len(predicted), 1.0 / len(predicted))

    return fitted(np.flatnonzero(fitted(np.arange(len(predicted))) >= LEAST_WEIGHT))


def _score(task: Task, truth: np.ndarray, predicted: np.ndarray) -> float:
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

"""What pushes a track's prediction up or down: exact Shapley values of a boosted model's trees.

A feature's contribution is what it adds to the model's average prediction, averaged over all orders in which the
features could become known. It is computed from the trees themselves, not from samples (Lundberg et al. 2020, From
local explanations to global understanding with explainable AI for trees). Average and contributions add up to the
prediction. They describe the model, not the world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.models.files import load_model
from tasks.prediction.candidates import Candidate, job_of, lineage
from tasks.prediction.champions import Champion, best_like
from tasks.prediction.predictor import model_inputs
from tasks.prediction.preparation import FittedStatistics
from tasks.specs import AUDIO_FEATURES, FEATURE_SETS
from tasks.storage.warehouse import Warehouse


@dataclass(frozen=True, slots=True)
class Reasons:
    """A model's prediction for one track as contributions of its features.

    Outputs are popularity in points, or a score for each genre. A genre's score is the logarithm of its probability
    minus the mean of all genres' logarithms, so that what raises all genres alike counts as 0. The softmax of the
    scores are the probabilities.
    """

    features: tuple[str, ...]
    contributions: np.ndarray  # (n_outputs, n_features)
    average: np.ndarray  # (n_outputs,): the model's average prediction, without any feature
    genres: tuple[str, ...] = ()  # of the outputs; none for popularity

    @property
    def outputs(self) -> np.ndarray:
        """The model's own prediction, (n_outputs,)."""
        total: np.ndarray = self.average + self.contributions.sum(axis=1)
        return total

    @property
    def probabilities(self) -> np.ndarray:
        """The probability of each genre, not calibrated, (n_outputs,)."""
        powers = np.exp(self.outputs - self.outputs.max())
        shares: np.ndarray = powers / powers.sum()
        return shares


@dataclass(frozen=True, slots=True)
class Explainer:
    """A loaded model of XGBoost or CatBoost that explains its predictions."""

    candidate: Candidate
    estimator: Any
    fitted: FittedStatistics
    genres: tuple[str, ...]  # by genre code

    @classmethod
    def load(cls, candidate: Candidate, champion: Champion, warehouse: Warehouse, threads: int) -> Explainer:
        """Loads a model. Args: champion: of the same task; its familiarity statistics are used."""
        tables = lineage(candidate.feature_version, warehouse)
        estimator = load_model(candidate.spec, candidate.model_path, candidate.model_sha256, warehouse, threads)
        fitted = FittedStatistics.of(tables, champion.calibration.familiarity, warehouse)
        return cls(candidate, estimator, fitted, job_of(candidate, tables, warehouse).genres)

    def reasons(self, prepared: pa.Table) -> list[Reasons]:
        """Explains the prediction of each row. Args: prepared: the result of preparation.prepare with `fitted`."""
        found = contributions(self.estimator, self.candidate.task, model_inputs(self.candidate, prepared))
        features = tuple(FEATURE_SETS[self.candidate.cell.feature_set].columns)
        names = self.genres if self.candidate.task == "genre" else ()
        return [Reasons(features, one[:, :-1], one[:, -1], names) for one in found]


def contributions(estimator: Any, task: str, x: np.ndarray) -> np.ndarray:
    """Computes the contribution of each feature to each output (see Reasons).

    Args: estimator: a fitted classifier or regressor of XGBoost or CatBoost. x: (n_rows, n_features).

    Returns: (n_rows, n_outputs, n_features + 1), float64; the last column is the model's average.
    """
    found = _of_xgboost(estimator, x) if hasattr(estimator, "get_booster") else _of_catboost(estimator, x)
    if task == "popularity":
        return found
    if found.shape[1] == 1:  # for two genres XGBoost has only the log-odds of the second
        found = np.concatenate([-found / 2, found / 2], axis=1)
    return np.asarray(found - found.mean(axis=1, keepdims=True))


def _of_xgboost(estimator: Any, x: np.ndarray) -> np.ndarray:
    import xgboost

    found = estimator.get_booster().predict(xgboost.DMatrix(x), pred_contribs=True, strict_shape=True)
    return np.asarray(found, dtype=np.float64)


def _of_catboost(estimator: Any, x: np.ndarray) -> np.ndarray:
    import catboost

    found = estimator.get_feature_importance(catboost.Pool(x), type="ShapValues")
    return np.asarray(found, dtype=np.float64).reshape(len(x), -1, x.shape[1] + 1)


def explained(champion: Champion, warehouse: Warehouse) -> Candidate | None:
    """Returns the model whose prediction is explained: the champion if that is possible, else a stored model.

    The stored model is the best one of XGBoost or CatBoost on audio features by the champions' rule, if possible of the
    champion's data. Returns None if there is none.
    """
    if is_explainable(champion.candidate):
        return champion.candidate
    return best_like(champion, is_explainable, warehouse)


def is_explainable(candidate: Candidate) -> bool:
    """Returns whether it is a model of XGBoost or CatBoost on audio features; other columns mean less to users."""
    chosen = FEATURE_SETS[candidate.cell.feature_set]
    is_of_features = chosen.table is not None and bool(chosen.columns) and set(chosen.columns) <= set(AUDIO_FEATURES)
    return is_of_features and candidate.model_path.endswith((".ubj", ".cbm"))

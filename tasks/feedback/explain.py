"""What pushed a track's prediction up or down: exact contributions of an XGBoost model's trees.

A feature's contribution is its Shapley value over the trees: what it adds to the model's average, averaged over every
order in which the features could have become known, computed from the trees themselves and not from samples (Lundberg
et al. 2020, From local explanations to global understanding with explainable AI for trees). Average and contributions
add up to the prediction. They describe the model, not the world.
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
from tasks.prediction.preparation import Learnt
from tasks.specs import AUDIO_FEATURES, FEATURE_SETS
from tasks.storage.warehouse import Warehouse


@dataclass(frozen=True, slots=True)
class Reasons:
    """A model's prediction for one track, taken apart. Outputs: popularity in points, or a score for each genre.

    A genre's score is the logarithm of its probability less the mean of all genres' logarithms, so that what raises
    every genre alike counts as nothing; probabilities are the softmax of the scores.
    """

    features: tuple[str, ...]
    contributions: np.ndarray  # (n_outputs, n_features)
    average: np.ndarray  # (n_outputs,): where the model starts, before it knows a feature
    genres: tuple[str, ...] = ()  # of the outputs; none for popularity

    @property
    def outputs(self) -> np.ndarray:
        """The model's own prediction, (n_outputs,)."""
        total: np.ndarray = self.average + self.contributions.sum(axis=1)
        return total

    @property
    def probabilities(self) -> np.ndarray:
        """Of each genre, (n_outputs,), not calibrated."""
        powers = np.exp(self.outputs - self.outputs.max())
        shares: np.ndarray = powers / powers.sum()
        return shares


@dataclass(frozen=True, slots=True)
class Explainer:
    """A loaded XGBoost model that can say why."""

    candidate: Candidate
    estimator: Any
    learnt: Learnt
    genres: tuple[str, ...]  # by genre code

    @classmethod
    def load(cls, candidate: Candidate, champion: Champion, warehouse: Warehouse, threads: int) -> Explainer:
        """Args: champion: of the same task, whose view of what is familiar is as good as any here."""
        tables = lineage(candidate.feature_version, warehouse)
        estimator = load_model(candidate.spec, candidate.model_path, candidate.model_sha256, warehouse, threads)
        learnt = Learnt.of(tables, champion.measured.familiarity, warehouse)
        return cls(candidate, estimator, learnt, job_of(candidate, tables, warehouse).genres)

    def reasons(self, prepared: pa.Table) -> list[Reasons]:
        """Why each row is predicted as it is. Args: prepared: as preparation.prepare makes it from `learnt`."""
        found = contributions(self.estimator, self.candidate.task, model_inputs(self.candidate, prepared))
        features = FEATURE_SETS[self.candidate.cell.feature_set].columns
        names = self.genres if self.candidate.task == "genre" else ()
        return [Reasons(features, one[:, :-1], one[:, -1], names) for one in found]


def contributions(estimator: Any, task: str, x: np.ndarray) -> np.ndarray:
    """Contributions of each feature and, last, the model's average: (n_rows, n_outputs, n_features + 1), float64.

    Args: estimator: a fitted XGBClassifier or XGBRegressor. x: (n_rows, n_features). Outputs as in Reasons.
    """
    import xgboost

    booster = estimator.get_booster()
    found = booster.predict(xgboost.DMatrix(x), pred_contribs=True, strict_shape=True).astype(np.float64)
    if task == "popularity":
        return np.asarray(found)
    if found.shape[1] == 1:  # of two genres XGBoost keeps the log-odds of the second
        found = np.concatenate([-found / 2, found / 2], axis=1)
    return np.asarray(found - found.mean(axis=1, keepdims=True))


def explained(champion: Champion, warehouse: Warehouse) -> Candidate | None:
    """The model that is explained in a champion's place: itself if it can be, else the best stored one that can.

    That is an XGBoost model on audio features: of the champion's own data if there is one, then by the champions' rule.
    """
    if is_explainable(champion.candidate):
        return champion.candidate
    return best_like(champion, is_explainable, warehouse)


def is_explainable(candidate: Candidate) -> bool:
    """Whether it is an XGBoost model whose inputs are audio features (principal components say nothing to people)."""
    columns = FEATURE_SETS[candidate.cell.feature_set].columns
    return candidate.model_path.endswith(".ubj") and bool(columns) and set(columns) <= set(AUDIO_FEATURES)

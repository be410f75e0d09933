"""The mean of tuned XGBoost, extremely randomized trees and the tuned net, with weights fitted out of fold.

The net learns both tasks. So the ensemble is one model of both, and each of its nets is fitted once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tasks.models import forests, multitask, xgboost
from tasks.models.spec import WHOLE_TREES, ModelSpec, Parameters
from tasks.specs import Task

LIBRARIES = ("numpy", "scipy", "scikit-learn", "xgboost", "tensorflow", "keras")
FOLDS, FOLDS_QUICK = 3, 2
# By task and name: the builder of each candidate, its settings in each fold, and those that quick budgets replace. The
# net of a fold averages half as many nets, and the forest of a fold has a third of the trees, because the folds' fits
# are averaged as well.
CANDIDATES: Mapping[Task, Mapping[str, tuple[Callable[..., Any], Parameters, Parameters]]] = {
    "genre": {
        "xgboost_tuned": (xgboost.classifier, xgboost.TUNED_GENRE, xgboost.TUNED_GENRE_QUICK),
        "extra_trees": (
            forests.extra_trees_classifier,
            {**forests.EXTRA_TREES_GENRE, "n_estimators": 100},
            forests.EXTRA_TREES_QUICK,
        ),
    },
    "popularity": {
        "xgboost_tuned": (xgboost.regressor, xgboost.TUNED_POPULARITY, xgboost.TUNED_POPULARITY_QUICK),
        # The trees grow until leaves hold single rows, and so memorize recordings. This helps where a recording is on
        # both sides of the split.
        "extra_trees": (forests.extra_trees_regressor, {"n_estimators": 100}, forests.EXTRA_TREES_QUICK),
    },
    "multitask": {
        "multitask_tuned": (
            multitask.encoded_net,
            {**multitask.ENCODED_NET, "members": 4},
            multitask.ENCODED_NET_QUICK,
        ),
    },
}


def stacked(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns an unfitted StackedEnsemble. Args: parameters: `folds`, and the candidates' settings by task and name."""
    from tasks.models.estimators.stacked import Candidate, StackedEnsemble

    def candidate(task: Task, name: str, build: Callable[..., Any]) -> Candidate:
        return Candidate(name=name, task=task, build=lambda seed: build(parameters[task][name], seed, n_jobs))

    every = [candidate(task, name, build) for task, of in CANDIDATES.items() for name, (build, *_) in of.items()]
    return StackedEnsemble(tuple(every), parameters["folds"], seed)


def _settings(folds: int, *, is_quick: bool) -> Parameters:
    of_candidates: dict[str, Any] = {
        task: {name: {**full, **(quick if is_quick else {})} for name, (_, full, quick) in of.items()}
        for task, of in CANDIDATES.items()
    }
    return {"folds": folds, **of_candidates}


MODELS = (
    ModelSpec(
        model="ensemble",
        task="multitask",
        build=stacked,
        keeps_model=False,
        needs_memory="it contains extremely randomized trees: " + WHOLE_TREES,
        parameters=_settings(FOLDS, is_quick=False),
        quick=_settings(FOLDS_QUICK, is_quick=True),
        feature_sets=("all",),
        group="better",
        libraries=LIBRARIES,
        cross_fits=True,
        cost=160,
    ),
)

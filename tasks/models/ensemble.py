"""The mean of tuned XGBoost, extremely randomized trees and the tuned net, with weights fitted out of fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tasks.models import forests, multitask, xgboost
from tasks.models.spec import WHOLE_TREES, ModelSpec, Parameters
from tasks.specs import Task

LIBRARIES = ("numpy", "scipy", "scikit-learn", "xgboost", "tensorflow", "keras")
FOLDS, FOLDS_QUICK = 3, 2
# For each member: its settings in each fold, and the settings that quick budgets replace. The net of a fold averages
# half as many nets, and the forest of a fold has a third of the trees, because the folds' fits are averaged as well.
NET = {**multitask.ENCODED_NET, "members": 4}
GENRE: Mapping[str, tuple[Parameters, Parameters]] = {
    "xgboost_tuned": (xgboost.TUNED_GENRE, xgboost.TUNED_GENRE_QUICK),
    "extra_trees": ({**forests.EXTRA_TREES_GENRE, "n_estimators": 100}, forests.EXTRA_TREES_QUICK),
    "multitask_tuned": (NET, multitask.ENCODED_NET_QUICK),
}
POPULARITY: Mapping[str, tuple[Parameters, Parameters]] = {
    "xgboost_tuned": (xgboost.TUNED_POPULARITY, xgboost.TUNED_POPULARITY_QUICK),
    # The trees grow until leaves hold single rows, and so memorize recordings. This helps where a recording is on both
    # sides of the split.
    "extra_trees": ({"n_estimators": 100}, forests.EXTRA_TREES_QUICK),
    "multitask_tuned": (NET, multitask.ENCODED_NET_QUICK),
}


def genre_ensemble(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns an unfitted StackedEnsemble of classifiers. Args: parameters: `folds`, and settings by member."""
    builders = {"xgboost_tuned": xgboost.classifier, "extra_trees": forests.extra_trees_classifier}
    return _stacked("genre", builders, parameters, seed, n_jobs)


def popularity_ensemble(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns an unfitted StackedEnsemble of regressors. Args: parameters: `folds`, and settings by member."""
    builders = {"xgboost_tuned": xgboost.regressor, "extra_trees": forests.extra_trees_regressor}
    return _stacked("popularity", builders, parameters, seed, n_jobs)


def _stacked(task: Task, builders: Mapping[str, Any], parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from tasks.models.estimators.stacked import Candidate, StackedEnsemble

    def candidate(name: str, build: Callable[..., Any]) -> Candidate:
        settings, is_multitask = parameters[name], build is multitask.encoded_net
        return Candidate(name=name, build=lambda seed: build(settings, seed, n_jobs), is_multitask=is_multitask)

    every = {**builders, "multitask_tuned": multitask.encoded_net}
    return StackedEnsemble(task, tuple(candidate(*one) for one in every.items()), parameters["folds"], seed)


MODELS = tuple(
    ModelSpec(
        model="ensemble",
        keeps_model=False,
        task=task,  # type: ignore[arg-type]
        build=build,
        needs_memory="it contains extremely randomized trees: " + WHOLE_TREES,
        parameters={"folds": FOLDS} | {name: settings for name, (settings, _) in members.items()},
        quick={"folds": FOLDS_QUICK} | {name: {**settings, **quick} for name, (settings, quick) in members.items()},
        feature_sets=("all",),
        group="better",
        libraries=LIBRARIES,
        cross_fits=True,
        cost=120,
    )
    for task, build, members in (
        ("genre", genre_ensemble, GENRE),
        ("popularity", popularity_ensemble, POPULARITY),
    )
)

"""The mean of tuned XGBoost, extremely randomized trees and the tuned net, with weights fitted on validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.models import forests, multitask, xgboost
from tasks.models.spec import WHOLE_TREES, ModelSpec, Parameters

LIBRARIES = ("numpy", "scipy", "scikit-learn", "xgboost", "tensorflow", "keras")
# For each member: its settings, and the settings that quick budgets replace.
GENRE: Mapping[str, tuple[Parameters, Parameters]] = {
    "xgboost_tuned": (xgboost.TUNED_GENRE, xgboost.TUNED_GENRE_QUICK),
    "extra_trees": (forests.EXTRA_TREES_GENRE, forests.EXTRA_TREES_QUICK),
    "multitask_tuned": (multitask.ENCODED_NET, multitask.ENCODED_NET_QUICK),
}
POPULARITY: Mapping[str, tuple[Parameters, Parameters]] = {
    "xgboost_tuned": (xgboost.TUNED_POPULARITY, xgboost.TUNED_POPULARITY_QUICK),
    # The trees grow until leaves hold single rows, and so memorize recordings. This helps where a recording is on both
    # sides of the split.
    "extra_trees": ({"n_estimators": 300}, forests.EXTRA_TREES_QUICK),
    "multitask_tuned": (multitask.ENCODED_NET, multitask.ENCODED_NET_QUICK),
}


def genre_ensemble(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns an unfitted StackedEnsemble of classifiers. Args: parameters: settings by member."""
    builders = {
        "xgboost_tuned": xgboost.classifier,
        "extra_trees": forests.extra_trees_classifier,
        "multitask_tuned": multitask.encoded_net,
    }
    return _stacked("genre", builders, parameters, seed, n_jobs)


def popularity_ensemble(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns an unfitted StackedEnsemble of regressors. Args: parameters: settings by member."""
    builders = {
        "xgboost_tuned": xgboost.regressor,
        "extra_trees": forests.extra_trees_regressor,
        "multitask_tuned": multitask.encoded_net,
    }
    return _stacked("popularity", builders, parameters, seed, n_jobs)


def _stacked(task: str, builders: Mapping[str, Any], parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from tasks.models.estimators.stacked import Member, StackedEnsemble

    return StackedEnsemble(
        task,
        tuple(
            Member(
                estimator=builders[name](settings, seed, n_jobs),
                is_multitask=builders[name] is multitask.encoded_net,
            )
            for name, settings in parameters.items()
        ),
    )


MODELS = tuple(
    ModelSpec(
        model="ensemble",
        keeps_model=False,
        task=task,  # type: ignore[arg-type]
        build=build,
        needs_memory="it contains extremely randomized trees: " + WHOLE_TREES,
        parameters={name: settings for name, (settings, _) in members.items()},
        quick={name: {**settings, **quick} for name, (settings, quick) in members.items()},
        feature_sets=("all",),
        group="better",
        libraries=LIBRARIES,
        watches_validation=True,
        learns_both=True,
        cost=80,
    )
    for task, build, members in (
        ("genre", genre_ensemble, GENRE),
        ("popularity", popularity_ensemble, POPULARITY),
    )
)

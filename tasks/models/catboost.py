"""CatBoost, boosted symmetric trees, with settings found by flows/tune.py. It is an extra of the project.

Its models exist only where the library is installed.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from tasks.models.spec import ModelSpec, Parameters, Range

LIBRARIES = ("numpy", "catboost")
GENRE = {
    "iterations": 1200,
    "learning_rate": 0.06,
    "depth": 6,
    "l2_leaf_reg": 6.0,
    "random_strength": 1.0,
    "bootstrap_type": "Bernoulli",
    "subsample": 0.7,
    "rsm": 0.2,
}
GENRE_QUICK = {"iterations": 40, "learning_rate": 0.2}
POPULARITY = {
    "iterations": 1000,
    "learning_rate": 0.03,
    "depth": 7,
    "l2_leaf_reg": 10.0,
    "random_strength": 1.0,
    "bootstrap_type": "Bernoulli",
    "subsample": 0.6,
    "rsm": 0.5,
}
POPULARITY_QUICK = {"iterations": 60, "learning_rate": 0.2}
SPACE = {
    "iterations": Range(low=400, high=1600, step=100),
    "learning_rate": Range(low=0.02, high=0.15, log=True),
    "depth": Range(low=4, high=8),
    "l2_leaf_reg": Range(low=1.0, high=30.0, log=True),
    "random_strength": Range(low=0.3, high=10.0, log=True),
    "subsample": Range(low=0.5, high=1.0),
    "rsm": Range(low=0.1, high=0.8),
}


def classifier(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns a CatBoostClassifier with a score for each genre, also of two."""
    from tasks.models.estimators.threaded_catboost import ThreadedCatBoostClassifier

    return ThreadedCatBoostClassifier(n_jobs, **parameters, random_seed=seed, loss_function="MultiClass")


def regressor(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns a CatBoostRegressor."""
    from tasks.models.estimators.threaded_catboost import ThreadedCatBoostRegressor

    return ThreadedCatBoostRegressor(n_jobs, **parameters, random_seed=seed)


MODELS = tuple(
    ModelSpec(
        model="catboost",
        task=task,  # type: ignore[arg-type]
        build=build,
        needs_memory="CatBoost keeps its rows in memory",
        parameters=parameters,
        quick=quick,
        space=SPACE,
        feature_sets=("all",),
        group="better",
        libraries=LIBRARIES,
        importance="gain",
        dtype="float32",
        cost=cost,
    )
    for task, build, parameters, quick, cost in (
        ("genre", classifier, GENRE, GENRE_QUICK, 28),
        ("popularity", regressor, POPULARITY, POPULARITY_QUICK, 5),
    )
    if find_spec("catboost")
)

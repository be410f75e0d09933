"""scikit-learn's tree models: random forests, extremely randomized trees and gradient boosting.

Random forests come from scikit-learn-intelex where it is installed, which fits them several times faster.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from tasks.models.spec import WHOLE_TREES, ModelSpec, Parameters, Range

HAS_INTELEX = importlib.util.find_spec("sklearnex") is not None
INTELEX = ("numpy", "scikit-learn", "scikit-learn-intelex")
EXTRA_TREES_GENRE = {"n_estimators": 300, "max_features": 0.79, "min_samples_leaf": 8}
EXTRA_TREES_POPULARITY = {"n_estimators": 300, "max_features": 0.6, "min_samples_leaf": 3}
EXTRA_TREES_QUICK = {"n_estimators": 30}
SPACE = {"max_features": Range(low=0.2, high=1.0), "min_samples_leaf": Range(low=1, high=12)}


def random_forest_classifier(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns a RandomForestClassifier of scikit-learn-intelex or scikit-learn."""
    ensemble = importlib.import_module("sklearnex.ensemble" if HAS_INTELEX else "sklearn.ensemble")
    return ensemble.RandomForestClassifier(**parameters, random_state=seed, n_jobs=n_jobs)


def random_forest_regressor(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns a RandomForestRegressor of scikit-learn-intelex or scikit-learn."""
    if HAS_INTELEX:
        from tasks.models.estimators.intelex_forest import IntelexForestRegressor

        return IntelexForestRegressor(**parameters, random_state=seed, n_jobs=n_jobs)
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(**parameters, random_state=seed, n_jobs=n_jobs)


def gradient_boosting(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns scikit-learn's GradientBoostingRegressor."""
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(**parameters, random_state=seed)


def extra_trees_classifier(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns scikit-learn's ExtraTreesClassifier."""
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(**parameters, random_state=seed, n_jobs=n_jobs)


def extra_trees_regressor(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns scikit-learn's ExtraTreesRegressor."""
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(**parameters, random_state=seed, n_jobs=n_jobs)


MODELS = (
    ModelSpec(
        model="random_forest",
        task="genre",
        build=random_forest_classifier,
        needs_memory=WHOLE_TREES,
        keeps_model=False,
        parameters={"n_estimators": 300},
        quick={"n_estimators": 30},
        libraries=INTELEX,
        importance="impurity",
        dtype="float32",
        cost=10,
    ),
    ModelSpec(
        model="random_forest",
        task="popularity",
        build=random_forest_regressor,
        needs_memory=WHOLE_TREES,
        keeps_model=False,
        parameters={"n_estimators": 1000},
        quick={"n_estimators": 30},
        libraries=INTELEX,
        importance="impurity",
        dtype="float32",
        cost=77,
    ),
    ModelSpec(
        model="gradient_boosting",
        task="popularity",
        build=gradient_boosting,
        needs_memory=WHOLE_TREES,
        parameters={"n_estimators": 100, "learning_rate": 0.1, "max_depth": 3},
        quick={"n_estimators": 20},
        importance="impurity",
        trusted_types=("sklearn.tree._tree.Tree",),
        cost=8,
    ),
    ModelSpec(
        model="extra_trees",
        task="genre",
        build=extra_trees_classifier,
        needs_memory=WHOLE_TREES,
        keeps_model=False,
        parameters=EXTRA_TREES_GENRE,
        quick=EXTRA_TREES_QUICK,
        space=SPACE,
        feature_sets=("all",),
        group="better",
        importance="impurity",
        dtype="float32",
        cost=14,
    ),
    ModelSpec(
        model="extra_trees",
        task="popularity",
        build=extra_trees_regressor,
        needs_memory=WHOLE_TREES,
        keeps_model=False,
        parameters=EXTRA_TREES_POPULARITY,
        quick=EXTRA_TREES_QUICK,
        space=SPACE,
        feature_sets=("all",),
        group="better",
        importance="impurity",
        dtype="float32",
        cost=13,
    ),
)

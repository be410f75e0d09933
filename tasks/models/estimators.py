"""How each model is built: (parameters, seed, n_jobs) -> unfitted estimator. Each imports what it needs when called."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

Parameters = Mapping[str, Any]


def _forests() -> Any:
    """The forests of scikit-learn-intelex where it is installed, several times faster than scikit-learn's own."""
    return importlib.import_module(
        "sklearnex.ensemble" if importlib.util.find_spec("sklearnex") else "sklearn.ensemble"
    )


def logistic_regression(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**parameters, random_state=seed)


def svm(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from tasks.models.svm import VectorizedSVC

    return VectorizedSVC(**parameters)


def knn(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(**parameters, n_jobs=n_jobs)


def forest_classifier(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    return _forests().RandomForestClassifier(**parameters, random_state=seed, n_jobs=n_jobs)


def xgboost_classifier(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    import xgboost

    return xgboost.XGBClassifier(**parameters, random_state=seed, n_jobs=n_jobs)


def mlp(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from tasks.models.mlp import FasterMLPClassifier

    return FasterMLPClassifier(**parameters, random_state=seed)


def linear(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from sklearn.linear_model import LinearRegression

    return LinearRegression(**parameters)


def ridge(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(**parameters, random_state=seed)


def lasso(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from sklearn.linear_model import Lasso

    return Lasso(**parameters, random_state=seed)


def forest_regressor(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    return _forests().RandomForestRegressor(**parameters, random_state=seed, n_jobs=n_jobs)


def gradient_boosting(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(**parameters, random_state=seed)


def xgboost_regressor(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    import xgboost

    return xgboost.XGBRegressor(**parameters, random_state=seed, n_jobs=n_jobs)


def multitask(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from tasks.models.multitask import MultitaskNet

    return MultitaskNet(**parameters, seed=seed, threads=n_jobs)


def encoded_net(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from tasks.models.multitask import EncodedNet

    return EncodedNet(**parameters, seed=seed, threads=n_jobs)


def extra_trees_classifier(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(**parameters, random_state=seed, n_jobs=n_jobs)


def extra_trees_regressor(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(**parameters, random_state=seed, n_jobs=n_jobs)


def genre_ensemble(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    builders = {
        "xgboost_tuned": xgboost_classifier,
        "extra_trees": extra_trees_classifier,
        "multitask_tuned": encoded_net,
    }
    return _ensemble("genre", builders, parameters, seed, n_jobs)


def popularity_ensemble(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    builders = {
        "xgboost_tuned": xgboost_regressor,
        "extra_trees": extra_trees_regressor,
        "multitask_tuned": encoded_net,
    }
    return _ensemble("popularity", builders, parameters, seed, n_jobs)


def _ensemble(task: str, builders: Mapping[str, Any], parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Args: parameters: of each member."""
    from tasks.models.ensemble import Member, StackedEnsemble

    return StackedEnsemble(
        task,
        tuple(
            Member(estimator=builders[name](settings, seed, n_jobs), is_multitask=builders[name] is encoded_net)
            for name, settings in parameters.items()
        ),
    )

"""XGBoost, with the study's settings and with settings found by flows/tune.py.

Out of core it builds the histograms of all rows from external memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.models.rows import Rows, chunks_of, classes_of
from tasks.models.spec import BySplit, ModelSpec, Parameters, Range

LIBRARIES = ("numpy", "xgboost")
TUNED_GENRE = {
    "n_estimators": 600,
    "learning_rate": 0.03,
    "max_depth": 6,
    "min_child_weight": 10,
    "subsample": 0.7,
    "colsample_bynode": 0.4,
    "reg_lambda": 3.0,
}
TUNED_GENRE_QUICK = {"n_estimators": 20}
TUNED_POPULARITY = {
    "n_estimators": 600,
    "learning_rate": 0.0265,
    "max_depth": 6,
    "min_child_weight": 3,
    "subsample": 0.56,
    "colsample_bynode": 0.7,
    "reg_lambda": 23.5,
}
TUNED_POPULARITY_QUICK = {"n_estimators": 50}
SPACE = {
    "n_estimators": Range(low=100, high=800, step=50),
    "learning_rate": Range(low=0.02, high=0.1, log=True),
    "max_depth": Range(low=4, high=10),
    "min_child_weight": Range(low=1, high=100, log=True),
    "subsample": Range(low=0.5, high=1.0),
    "colsample_bynode": Range(low=0.2, high=1.0),
    "reg_lambda": Range(low=0.1, high=30.0, log=True),
}


def classifier(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns an XGBClassifier."""
    import xgboost

    return xgboost.XGBClassifier(**parameters, random_state=seed, n_jobs=n_jobs)


def regressor(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns an XGBRegressor."""
    import xgboost

    return xgboost.XGBRegressor(**parameters, random_state=seed, n_jobs=n_jobs)


def fit_out_of_core(estimator: Any, x: BySplit, y: BySplit) -> None:
    """Fits XGBClassifier or XGBRegressor out of core: rows are read by chunk, cut into bins and cached on disk."""
    import xgboost as xgb

    parameters = training_parameters(estimator, lambda: len(classes_of(y["train"])))
    data = xgb.ExtMemQuantileDMatrix(
        _iterator(xgb, x["train"], y["train"]), max_bin=estimator.max_bin, nthread=estimator.n_jobs
    )
    booster = xgb.train(parameters, data, estimator.get_num_boosting_rounds())
    estimator.load_model(booster.save_raw("ubj"))


def training_parameters(estimator: Any, count_classes: Callable[[], int]) -> dict[str, Any]:
    """Returns an estimator's settings for `xgboost.train`. Args: count_classes: called for classifiers only."""
    parameters: dict[str, Any] = estimator.get_xgb_params()
    if hasattr(estimator, "predict_proba") and (n_classes := count_classes()) > 2:
        parameters |= {"objective": "multi:softprob", "num_class": n_classes}
    return parameters


def _iterator(xgb: Any, x: Any, y: Rows) -> Any:
    """Returns an iterator that gives XGBoost the rows by chunk, and caches files beside the rows' file."""
    chunks = chunks_of(x)

    class Chunks(xgb.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            self.at = 0
            super().__init__(cache_prefix=str(x.file.with_suffix("")))

        def next(self, input_data: Callable[..., None]) -> bool:
            if self.at == len(chunks):
                return False
            rows = chunks[self.at]
            input_data(data=x[rows], label=y[rows])
            self.at += 1
            return True

        def reset(self) -> None:
            self.at = 0

    return Chunks()


MODELS = (
    ModelSpec(
        model="xgboost",
        task="genre",
        build=classifier,
        fit_out_of_core=fit_out_of_core,
        parameters={
            "n_estimators": 300,
            "learning_rate": 0.1,
            "max_depth": 6,
            "subsample": 0.8,
            "colsample_bytree": 0.8,
        },
        quick={"n_estimators": 20},
        libraries=LIBRARIES,
        is_probe=True,
        importance="gain",
        dtype="float32",
        cost=9,
    ),
    ModelSpec(
        model="xgboost",
        task="popularity",
        build=regressor,
        fit_out_of_core=fit_out_of_core,
        parameters={"n_estimators": 1000, "learning_rate": 0.05, "max_depth": 8, "subsample": 0.8},
        quick={"n_estimators": 50},
        libraries=LIBRARIES,
        is_probe=True,
        importance="gain",
        dtype="float32",
        cost=6,
    ),
    ModelSpec(
        model="xgboost_tuned",
        task="genre",
        build=classifier,
        fit_out_of_core=fit_out_of_core,
        parameters=TUNED_GENRE,
        quick=TUNED_GENRE_QUICK,
        space=SPACE,
        feature_sets=("all",),
        group="better",
        libraries=LIBRARIES,
        importance="gain",
        dtype="float32",
        cost=19,
    ),
    ModelSpec(
        model="xgboost_tuned",
        task="popularity",
        build=regressor,
        fit_out_of_core=fit_out_of_core,
        parameters=TUNED_POPULARITY,
        quick=TUNED_POPULARITY_QUICK,
        space=SPACE,
        feature_sets=("all",),
        group="better",
        libraries=LIBRARIES,
        importance="gain",
        dtype="float32",
        cost=2,
    ),
)

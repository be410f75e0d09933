"""Fits one library's model to rows in a file, and predicts the test rows. Needs NumPy and that library alone.

`benchmarks.peers` runs it in a separate process, with any Python: a library may need an environment of its own.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

LEARNING_RATE = 0.05
PATIENCE = 50  # rounds without a better score on validation rows, after which boosting stops


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows by split, and how a peer is fitted to them."""

    task: str  # genre or popularity
    x: dict[str, np.ndarray]  # of train, val and test, (n_rows, n_features)
    y: dict[str, np.ndarray]  # of train and val, (n_rows,): genre codes or popularity points
    threads: int
    seed: int
    rounds: int  # the most trees, or the most trees a genre
    seconds: float  # AutoGluon's limit

    @property
    def is_genre(self) -> bool:
        """Whether the peer predicts probabilities of genres."""
        return self.task == "genre"

    @classmethod
    def of(cls, file: Path, **how: Any) -> Rows:
        """Reads rows from an .npz file."""
        with np.load(file) as stored:
            x = {split: stored[f"x_{split}"] for split in ("train", "val", "test")}
            y = {split: stored[f"y_{split}"] for split in ("train", "val")}
        return cls(x=x, y=y, **how)


Predict = Callable[[np.ndarray], np.ndarray]  # popularity points, (n_rows,), or probabilities by class
Fitted = tuple[Predict, np.ndarray | None]  # with the genre code of each class


def xgboost(rows: Rows) -> Fitted:
    """Fits XGBoost with its default trees."""
    import xgboost as xgb

    model = (xgb.XGBClassifier if rows.is_genre else xgb.XGBRegressor)(
        n_estimators=rows.rounds,
        learning_rate=LEARNING_RATE,
        early_stopping_rounds=PATIENCE,
        n_jobs=rows.threads,
        random_state=rows.seed,
    )
    model.fit(rows.x["train"], rows.y["train"], eval_set=[(rows.x["val"], rows.y["val"])], verbose=False)
    return _predict(model, rows), getattr(model, "classes_", None)


def lightgbm(rows: Rows) -> Fitted:
    """Fits LightGBM with its default trees."""
    import lightgbm as lgb

    model = (lgb.LGBMClassifier if rows.is_genre else lgb.LGBMRegressor)(
        n_estimators=rows.rounds,
        learning_rate=LEARNING_RATE,
        n_jobs=rows.threads,
        random_state=rows.seed,
        verbosity=-1,
    )
    model.fit(
        rows.x["train"],
        rows.y["train"],
        eval_X=rows.x["val"],
        eval_y=rows.y["val"],
        callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
    )
    return _predict(model, rows), getattr(model, "classes_", None)


def catboost(rows: Rows) -> Fitted:
    """Fits CatBoost with its default trees."""
    import catboost as cat

    model = (cat.CatBoostClassifier if rows.is_genre else cat.CatBoostRegressor)(
        iterations=rows.rounds,
        learning_rate=LEARNING_RATE,
        thread_count=rows.threads,
        random_seed=rows.seed,
        verbose=False,
        allow_writing_files=False,
    )
    watched = (rows.x["val"], rows.y["val"])
    model.fit(rows.x["train"], rows.y["train"], eval_set=watched, early_stopping_rounds=PATIENCE)
    return _predict(model, rows), model.classes_ if rows.is_genre else None


def autogluon(rows: Rows) -> Fitted:
    """Fits AutoGluon's models and their weighted ensemble, with its default presets, in a limited time."""
    import pandas as pd
    from autogluon.tabular import TabularPredictor

    def frame(x: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(x, columns=[f"x{number}" for number in range(x.shape[1])])

    model = TabularPredictor(
        label="y",
        problem_type="multiclass" if rows.is_genre else "regression",
        path=tempfile.mkdtemp(),
        verbosity=0,
    )
    model.fit(
        frame(rows.x["train"]).assign(y=rows.y["train"]),
        tuning_data=frame(rows.x["val"]).assign(y=rows.y["val"]),
        time_limit=rows.seconds,
        num_cpus=rows.threads,
    )
    if rows.is_genre:
        return lambda x: model.predict_proba(frame(x)).to_numpy(), np.array(model.class_labels)
    return lambda x: model.predict(frame(x)).to_numpy(), None


def _predict(model: Any, rows: Rows) -> Predict:
    return model.predict_proba if rows.is_genre else model.predict


PEERS: dict[str, tuple[str, Callable[[Rows], Fitted]]] = {  # with the name of its library
    "xgboost": ("xgboost", xgboost),
    "lightgbm": ("lightgbm", lightgbm),
    "catboost": ("catboost", catboost),
    "autogluon": ("autogluon.tabular", autogluon),
}


def version_of(peer: str) -> str | None:
    """Returns the version of a peer's library; None if it is not installed."""
    for name in (PEERS[peer][0], f"{PEERS[peer][0]}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def main() -> None:
    """Prints the version of the peer's library, or null if it is not installed, and the seconds of its fit, as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("task", choices=["genre", "popularity"])
    parser.add_argument("rows", type=Path, help="an .npz file with x_train, y_train, x_val, y_val and x_test")
    parser.add_argument("predicted", type=Path, help="the .npy file to write: points, or probabilities by genre code")
    parser.add_argument("--genres", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    version = version_of(given.peer)
    if version is None:
        print(json.dumps({"version": None}))
        return
    how = {name: getattr(given, name) for name in ("task", "threads", "seed", "rounds", "seconds")}
    rows = Rows.of(given.rows, **how)
    importlib.import_module(PEERS[given.peer][0])  # before the time is measured
    started = time.perf_counter()
    predict, classes = PEERS[given.peer][1](rows)
    seconds = time.perf_counter() - started
    found = np.asarray(predict(rows.x["test"]), dtype=np.float64)
    if classes is not None:
        probabilities = np.zeros((len(found), given.genres))  # no column for a genre without training rows
        probabilities[:, classes.astype(np.int64)] = found
        found = probabilities
    np.save(given.predicted, found)
    print(json.dumps({"version": version, "fit_seconds": seconds}))


if __name__ == "__main__":
    main()

"""Runs the study's 36 fits and its multi-task net one after another, as its notebooks do.

    python -m benchmarks.notebook_baseline musicData.csv --out benchmarks/results/notebook_baseline.json

scikit-learn, XGBoost and Keras have their default threading, with `n_jobs=-1` where an estimator takes it. It takes
about 40 minutes on 2 cores. Run it on a quiet machine, and not at the same time as `python -m flows.benchmark`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from benchmarks import study

CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic_regression": lambda: LogisticRegression(max_iter=500, random_state=42),
    "svm": lambda: SVC(kernel="rbf", C=1.0, gamma="scale", random_state=42),
    "knn": lambda: KNeighborsClassifier(n_neighbors=5, n_jobs=-1),
    "random_forest": lambda: RandomForestClassifier(n_estimators=300, random_state=42, n_jobs=-1),
    "xgboost": lambda: xgboost.XGBClassifier(
        n_estimators=300, learning_rate=0.1, max_depth=6, subsample=0.8, colsample_bytree=0.8, random_state=42
    ),
    "mlp": lambda: MLPClassifier(
        hidden_layer_sizes=(128, 64), alpha=1e-4, learning_rate_init=1e-3, max_iter=300, random_state=42
    ),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "linear": LinearRegression,
    "ridge": lambda: Ridge(alpha=1.0, random_state=42),
    "lasso": lambda: Lasso(alpha=0.001, max_iter=5000, random_state=42),
    "random_forest": lambda: RandomForestRegressor(n_estimators=1000, random_state=42, n_jobs=-1),
    "gradient_boosting": lambda: GradientBoostingRegressor(
        n_estimators=100, learning_rate=0.1, max_depth=3, random_state=42
    ),
    "xgboost": lambda: xgboost.XGBRegressor(
        n_estimators=1000, learning_rate=0.05, max_depth=8, subsample=0.8, random_state=42
    ),
}


def fit_multitask(x: dict[str, Any], genre: dict[str, Any], popularity: dict[str, Any]) -> dict[str, float]:
    """Fits the study's two-headed Keras net by plain `Model.fit`."""
    import keras

    keras.utils.set_random_seed(42)
    inputs = keras.Input(shape=(x["train"].shape[1],))
    hidden = inputs
    for units in (256, 128):
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
        hidden = keras.layers.BatchNormalization()(hidden)
        hidden = keras.layers.Dropout(0.3)(hidden)
    heads = {}
    for name in ("genre", "popularity"):
        head = keras.layers.Dense(64, activation="relu")(hidden)
        heads[name] = keras.layers.Dropout(0.2)(head)
    classes = int(genre["train"].max()) + 1
    outputs = {
        "genre": keras.layers.Dense(classes, activation="softmax", name="genre")(heads["genre"]),
        "popularity": keras.layers.Dense(1, activation="sigmoid", name="popularity")(heads["popularity"]),
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(3e-4),
        loss={"genre": "sparse_categorical_crossentropy", "popularity": "mse"},
        loss_weights={"genre": 1.0, "popularity": 5.0},
    )
    targets = {name: {"genre": genre[name], "popularity": popularity[name] / 100.0} for name in x}
    callbacks = [
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=15, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=8),
    ]
    started = time.perf_counter()
    model.fit(
        x["train"],
        targets["train"],
        validation_data=(x["val"], targets["val"]),
        batch_size=128,
        epochs=100,
        callbacks=callbacks,
        verbose=0,
    )
    fitted = time.perf_counter()
    predicted = {name: model.predict(x[name], verbose=0) for name in ("val", "test")}
    done = time.perf_counter()
    return {
        "fit_seconds": fitted - started,
        "predict_seconds": done - fitted,
        "accuracy": accuracy_score(genre["test"], predicted["test"]["genre"].argmax(axis=1)),
        "rmse": root_mean_squared_error(popularity["test"], predicted["test"]["popularity"][:, 0] * 100.0),
    }


def main() -> None:
    """Runs every fit, prints each as it ends, and writes times and test scores as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("csv", type=Path, help="the real raw file")
    parser.add_argument("--out", type=Path, help="write the times as JSON here")
    arguments = parser.parse_args()

    began = time.perf_counter()
    splits = study.prepare(arguments.csv)
    codes = {genre: code for code, genre in enumerate(sorted(splits["train"]["music_genre"].unique()))}
    genre = {name: frame["music_genre"].map(codes).to_numpy() for name, frame in splits.items()}
    popularity = {name: frame["popularity"].to_numpy() for name, frame in splits.items()}
    cells: list[dict[str, Any]] = []

    def record(task: str, model: str, feature_set: str, scores: dict[str, float]) -> None:
        cells.append({"task": task, "model": model, "feature_set": feature_set, **scores})
        print(f"{task:<10} {model:<20} {feature_set:<10}", *(f"{k} {v:.4f}" for k, v in scores.items()), flush=True)

    for task, registry in (("genre", CLASSIFIERS), ("popularity", REGRESSORS)):
        y: dict[str, np.ndarray] = genre if task == "genre" else popularity
        for feature_set, columns in study.FEATURE_SETS.items():
            x = {name: frame[columns].to_numpy() for name, frame in splits.items()}
            for model, build in registry.items():
                started = time.perf_counter()
                estimator = build().fit(x["train"], y["train"])
                fitted = time.perf_counter()
                predicted = {name: estimator.predict(x[name]) for name in ("val", "test")}
                done = time.perf_counter()
                score = {"genre": ("accuracy", accuracy_score), "popularity": ("rmse", root_mean_squared_error)}[task]
                scores = {
                    "fit_seconds": fitted - started,
                    "predict_seconds": done - fitted,
                    score[0]: float(score[1](y["test"], predicted["test"])),
                }
                record(task, model, feature_set, scores)
    x = {name: frame[study.AUDIO].to_numpy() for name, frame in splits.items()}
    record("multitask", "multitask", "all", fit_multitask(x, genre, popularity))

    total = time.perf_counter() - began
    fitting = sum(cell["fit_seconds"] + cell["predict_seconds"] for cell in cells)
    print(f"total {total:.1f} s, of which fit and predict {fitting:.1f} s")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        machine = {"cpu_count": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        arguments.out.write_text(json.dumps({"total_seconds": total, **machine, "cells": cells}, indent=1) + "\n")


if __name__ == "__main__":
    main()

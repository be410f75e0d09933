"""Compares this project's estimators with those of scikit-learn, XGBoost and Keras, for each model of the study.

Each fit runs in a separate process with one thread, both sides on the same rows of the generated sample. Times are CPU
seconds, so that neither other work on the machine nor the number of cores affects the ratio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.notebook_baseline import CLASSIFIERS, REGRESSORS, fit_multitask
from tasks.compute.subnormals import flushed_to_zero

Arrays = dict[str, np.ndarray]
LEAST_SECONDS = 0.2  # quick calls are repeated for this long


@dataclass(frozen=True, slots=True)
class Fit:
    """One side of the comparison of one model, as it is sent to the process that runs it."""

    task: str
    model: str
    is_ours: bool
    table: Path  # features.tracks_std
    features: tuple[str, ...]


def time_fit(fit: Fit) -> tuple[float, float]:
    """Returns the CPU seconds to fit and to predict the test rows (0 for the net, whose fit includes it)."""
    from tasks.models.registry import MODELS

    std = pl.read_parquet(fit.table).sort("position")
    parts = {name: std.filter(split=name) for name in ("train", "val", "test")}
    x = {name: part.select(fit.features).to_numpy(order="c") for name, part in parts.items()}
    genre = {name: part["genre_id"].to_numpy().astype("int64") for name, part in parts.items()}
    popularity = {name: part["popularity"].to_numpy() for name, part in parts.items()}
    spec = MODELS[f"{fit.task}/{fit.model}"]
    estimator: Any = spec.build(spec.parameters_for("full"), 42, 1)
    within = flushed_to_zero() if fit.is_ours else nullcontext()  # as cells train and predict
    if fit.task == "multitask":
        with within:
            return _time_net(estimator, fit.is_ours, x, genre, popularity), 0.0
    y = genre if fit.task == "genre" else popularity
    if fit.is_ours:
        x = {name: array.astype(spec.dtype) for name, array in x.items()}
    else:
        estimator = (CLASSIFIERS if fit.task == "genre" else REGRESSORS)[fit.model]()
        if hasattr(estimator, "n_jobs"):
            estimator.set_params(n_jobs=1)
    with within:
        seconds = _seconds_each(lambda: estimator.fit(x["train"], y["train"]))
        return seconds, _seconds_each(lambda: estimator.predict(x["test"]))


def _seconds_each(call: Callable[[], Any]) -> float:
    """Returns the least CPU seconds of a call: other work on the machine can only add to them."""
    least, began = math.inf, time.process_time()
    while math.isinf(least) or time.process_time() - began < LEAST_SECONDS:
        called = time.process_time()
        call()
        least = min(least, time.process_time() - called)
    return least


def _time_net(net: Any, is_ours: bool, x: Arrays, genre: Arrays, popularity: Arrays) -> float:
    import tensorflow  # noqa: F401, ICN001 - imported here so that neither side is charged for it

    began = time.process_time()
    if is_ours:
        seen = ({name: part[name] for name in ("train", "val")} for part in (x, genre, popularity))
        net.fit(*seen)
        for name in ("val", "test"):
            net.outputs(x[name])
    else:
        fit_multitask(x, genre, popularity)
    return time.process_time() - began

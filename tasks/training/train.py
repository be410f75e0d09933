"""Trains and scores one cell and writes its files. Runs in a separate process, without Prefect."""

from __future__ import annotations

import resource
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.compat import decrease_of_impurity
from tasks.compute.subnormals import flushed_to_zero
from tasks.evaluation import bootstrap
from tasks.evaluation import metrics as scoring
from tasks.features.splits import SHARES
from tasks.models.files import save_model
from tasks.models.inference import Predicted, held_out, join, predict, predict_values
from tasks.models.registry import spec_of
from tasks.models.rows import Data, Rows, StoredRows, blocks_of, chunks_of, columns_of
from tasks.models.spec import ModelSpec
from tasks.specs import BUDGETS, EVALUATED, FEATURE_SETS, SLICES
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training import large_tables
from tasks.training.cell_files import PREDICTIONS, REPLICATES, RESULT
from tasks.training.cell_key import parameters_json
from tasks.training.jobs import Job

FOLD_TABLE = (
    "select trained.*, assigned.group_id from features.trained_table as trained "
    "inner join features.split_assignment as assigned on trained.track_id = assigned.track_id"
)


def train_cell(job: Job) -> None:
    """Fits, predicts and scores a cell, and writes its result, replicates and predictions into the warehouse.

    Raises: any error of the model.
    """
    warnings.filterwarnings("ignore", category=UserWarning)  # expected: the study's MLP stops at 300 iterations
    started_at = datetime.now(UTC)
    with opened(job) as data:
        _train(job, data, started_at)


def _train(job: Job, data: Data, started_at: datetime) -> None:
    spec = spec_of(job.cell)
    budget = BUDGETS[job.cell.budget]
    data = for_model(spec, data)
    estimator = spec.build(spec.parameters_for(budget.name), job.cell.seed, job.threads)

    started = time.perf_counter()
    if job.cell.workers:
        from tasks.training import dask_xgboost  # needs Dask

        dask_xgboost.fit(estimator, job)
    else:
        fit(estimator, spec, data)
    fitted = time.perf_counter()
    predicted = predict_splits(estimator, spec, data.x, len(job.genres))
    predict_seconds = time.perf_counter() - fitted

    peak_rss_mb = _peak_rss_mb()
    warehouse = Warehouse.at(job.warehouse)
    keeps_model = spec.keeps_model and job.cell.train_rows is None and job.cell.fold is None
    metrics, replicates = _metrics(data, predicted)
    with warehouse.new_folder(warehouse.cell(job.result)) as folder:
        model_file, sha256 = save_model(estimator, folder) if keeps_model else (None, None)
        result = {
            "result": job.result,
            "started_at": started_at,
            "fit_seconds": fitted - started,
            "predict_seconds": predict_seconds,
            "n_train": data.n_train,
            "sampled_from": data.sampled_from,
            "sample_reason": spec.needs_memory if data.sampled_from else None,
            "params": parameters_json(job.cell),
            "feature_version": job.feature_version,
            "model_path": f"cells/{job.result}/{model_file}" if model_file else None,
            "model_sha256": sha256,
            "test_rows": scoring.digest_of_rows(data.track_id["test"]),
            "popularity_errors": _popularity_errors(data, predicted, job.genres),
            "metrics": metrics,
            "confusion": _confusion(data, predicted, job.genres),
            "importance": _importance(estimator, spec, data, budget.importance_rows, job.cell.seed),
            "history": _history(estimator),
            "members": [asdict(member) for member in getattr(estimator, "ensemble_members", [])],
            "calibration": _calibration(data, predicted),
            "peak_rss_mb": peak_rss_mb,
            "finished_at": datetime.now(UTC),
        }
        replicates = [{"result": job.result, **row} for row in replicates]
        pq.write_table(pa.Table.from_pylist(replicates, REPLICATES), folder / "replicates.parquet", compression="zstd")
        with pq.ParquetWriter(folder / "predictions.parquet", PREDICTIONS, compression="zstd") as writer:
            for part in _predictions(job, data, predicted):
                writer.write_table(part)
        pq.write_table(pa.Table.from_pylist([result], schema=RESULT), folder / "result.parquet", compression="zstd")


@flushed_to_zero()
def fit(estimator: Any, spec: ModelSpec, data: Data) -> None:
    """Fits an estimator on the training rows; one that watches validation, or cross-fits, also gets validation rows."""
    watched = slice(large_tables.WATCHED_ROWS if isinstance(data.x["val"], StoredRows) else None)
    rows = (data.x, *(data.y[target] for target in spec.targets), *([data.units] if spec.cross_fits else []))
    by_split = [{"train": part["train"], "val": part["val"][watched]} for part in rows]
    if isinstance(data.x["train"], StoredRows) and spec.fit_out_of_core:
        spec.fit_out_of_core(estimator, *by_split)
    elif spec.watches_validation or spec.cross_fits:
        estimator.fit(*by_split)
    else:
        estimator.fit(data.x["train"], data.y[spec.task]["train"])


def for_model(spec: ModelSpec, data: Data) -> Data:
    """Returns the rows that a model is fitted to and evaluated on: all, unless it cross-fits.

    A model that cross-fits is fitted to validation rows, too, and evaluated on no others: they may share groups. Few
    training rows get as few of them as their split would have: the first, a sample, because rows are shuffled.
    """
    if not spec.cross_fits:
        return data
    n = round(data.n_train * SHARES["val"] / SHARES["train"]) or 1

    def cut(by_split: dict[str, Any]) -> dict[str, Any]:
        return by_split | {"val": by_split["val"][:n]}

    return replace(
        data,
        x=cut(data.x),
        y={task: cut(y) for task, y in data.y.items()},
        track_id=cut(data.track_id),
        is_imputed=cut(data.is_imputed),
        units=cut(data.units),
    )


def predict_splits(estimator: Any, spec: ModelSpec, x: dict[str, Rows], n_genres: int) -> dict[str, Predicted]:
    """Predicts the rows of each evaluated split: arrays in one pass, because a large forest is slow to walk through.

    A model that cross-fits has predicted the validation rows out of fold.
    """
    if spec.cross_fits:
        return {"val": held_out(estimator, n_genres), "test": predict_all(estimator, spec, x["test"], n_genres)}
    rows = [part for split in EVALUATED if not isinstance(part := x[split], StoredRows)]
    if len(rows) < len(EVALUATED):
        return {split: predict_all(estimator, spec, x[split], n_genres) for split in EVALUATED}
    found = predict_all(estimator, spec, np.concatenate(rows), n_genres)
    ends = np.cumsum([len(part) for part in rows])
    return {
        split: found.rows(slice(end - len(part), end)) for split, part, end in zip(EVALUATED, rows, ends, strict=True)
    }


@flushed_to_zero()
def predict_all(estimator: Any, spec: ModelSpec, x: Rows, n_genres: int) -> Predicted:
    """Predicts as `tasks.models.inference.predict` does; stored rows are read one chunk at a time."""
    return join([predict(estimator, spec, x[rows], n_genres) for rows in chunks_of(x)])


@contextmanager
def opened(job: Job) -> Iterator[Data]:
    """Yields a cell's rows: in memory, or on disk for a large table."""
    if job.cell.workers or large_tables.is_large(job):
        with large_tables.stored(job) as data:
            yield data
    else:
        yield load(job)


def load(job: Job) -> Data:
    """Reads a cell's rows into memory, with as many training rows as its budget allows and the cell asks for."""
    dtype = spec_of(job.cell).dtype
    table = _table(job, Warehouse.to_read(job.warehouse))
    features = columns_of(FEATURE_SETS[job.cell.feature_set], table.columns)
    limit = BUDGETS[job.cell.budget].max_train_rows
    parts = {split: table.filter(pl.col("split") == split).sort("position") for split in ("train", *EVALUATED)}
    parts["train"] = parts["train"].head(limit) if limit else parts["train"]
    if job.cell.train_rows is not None:
        parts["train"] = parts["train"][stratified(parts["train"]["genre_id"].to_numpy(), job.cell.train_rows)]
    return Data(
        features=features,
        n_train=len(parts["train"]),
        x={split: part.select(features).to_numpy(order="c").astype(dtype) for split, part in parts.items()},
        y={
            "genre": {split: part["genre_id"].to_numpy().astype(np.int64) for split, part in parts.items()},
            "popularity": {split: part["popularity"].to_numpy().astype(dtype) for split, part in parts.items()},
        },
        track_id={split: part["track_id"].to_numpy() for split, part in parts.items()},
        is_imputed={split: part["is_imputed"].to_numpy() for split, part in parts.items()},
        units={split: part["group_id"].to_numpy() for split, part in parts.items()},
    )


def _table(job: Job, warehouse: Warehouse) -> pl.DataFrame:
    """Returns the feature table of a cell, with the group of each track."""
    if job.cell.fold:
        with duck.workspace(spill=warehouse.scratch) as connection:
            connection.execute(f"set threads = {job.threads}")
            large_tables.show_table(job, warehouse, connection)
            return pl.DataFrame(connection.sql(FOLD_TABLE).to_arrow_table())
    groups = pl.read_parquet(warehouse.here(job.split_table), columns=["track_id", "group_id"])
    return pl.read_parquet(warehouse.here(job.table)).join(groups, on="track_id")


def stratified(genre: np.ndarray, n: int) -> np.ndarray:
    """Returns the numbers of `n` rows, stratified by genre (to within one row): the first rows of each genre.

    The rows for a smaller n are a subset of those for a larger n.

    Args: genre: codes, shape (n_rows,), of rows in random order.

    Returns: row numbers, ascending, shape (n,).
    """
    by_genre = np.argsort(genre, kind="stable")
    counts = np.bincount(genre)
    place = np.empty(len(genre))  # each row's place within its genre, 0 to 1
    place[by_genre] = np.concatenate([(np.arange(count) + 0.5) / count for count in counts if count])
    return np.sort(np.argsort(place, kind="stable")[:n])


def _metrics(data: Data, predicted: dict[str, Predicted]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the entries of a result's metrics, and those of its replicates (slice `all`)."""
    rows, kept = [], []
    for split, found in predicted.items():
        imputed = data.is_imputed[split]
        members = dict(zip(SLICES, (np.ones_like(imputed), imputed, ~imputed), strict=True))
        members = {name: chosen for name, chosen in members.items() if chosen.any()}
        for task, y_pred in found.values.items():
            y_true = data.y[task][split]
            shares = found.probabilities if task == "genre" else None
            resampled = bootstrap.replicates(task, y_true, y_pred, shares, members, data.units[split])
            for name, chosen in members.items():
                scores = scoring.score(task, y_true[chosen], y_pred[chosen])
                if shares is not None:
                    scores |= scoring.probability_scores(y_true[chosen], shares[chosen])
                for metric, value in scores.items():
                    if not np.isfinite(value):
                        resampled[name, metric] = np.full_like(resampled[name, metric], np.nan)
                    low, high = bootstrap.percentile_interval(resampled[name, metric])
                    figure = {"metric": metric, "value": _or_null(value), "ci_low": low, "ci_high": high}
                    rows.append({"task": task, "split": split, "slice": name, "n": int(chosen.sum()), **figure})
                    if name == "all":
                        values = resampled[name, metric]
                        kept.append({"task": task, "split": split, "metric": metric, "replicates": values})
    return rows, kept


def _or_null(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _confusion(data: Data, predicted: dict[str, Predicted], genres: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"split": split, "true_genre": true, "predicted_genre": guess, "n": int(counts[i, j])}
        for split, found in predicted.items()
        if "genre" in found.values
        for counts in [scoring.confusion(data.y["genre"][split], found.values["genre"], len(genres))]
        for i, true in enumerate(genres)
        for j, guess in enumerate(genres)
    ]


def _popularity_errors(data: Data, predicted: dict[str, Predicted], genres: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"split": split, "bucket_by": bucket_by, **row}
        for split, found in predicted.items()
        if "popularity" in found.values
        for y_true in [data.y["popularity"][split]]
        for bucket_by, names, bucket in (
            ("genre", genres, data.y["genre"][split]),
            ("popularity", scoring.POPULARITY_BANDS, scoring.popularity_band(y_true)),
        )
        for row in scoring.errors_by_bucket(y_true, found.values["popularity"], bucket, names)
    ]


def _importance(estimator: Any, spec: ModelSpec, data: Data, rows: int, seed: int) -> list[dict[str, Any]]:
    if spec.importance == "permutation":

        def predicted(x: np.ndarray) -> dict[str, np.ndarray]:
            if spec.cross_fits:  # the validation rows, once or repeatedly
                numbers = np.arange(len(x)) % len(data.x["val"][:rows])
                return estimator.predict_out_of_fold(x, numbers)
            return predict_values(estimator, spec, x)

        by_task = scoring.permutation_importance(
            predicted,
            data.x["val"][:rows],
            {task: y["val"][:rows] for task, y in data.y.items()},
            seed,
        )
    elif spec.importance == "coefficient":
        by_task = {spec.task: np.abs(np.atleast_2d(estimator.coef_)).mean(axis=0)}
    else:
        by_task = {spec.task: _feature_importances(estimator)}
    return [
        {"task": task, "feature_name": name, "importance": float(value), "method": spec.importance}
        for task, values in by_task.items()
        for name, value in zip(data.features, values, strict=True)
    ]


def _feature_importances(estimator: Any) -> np.ndarray:
    """Returns the mean decrease of impurity, or the gain, of each feature, as shares that add up to 1."""
    decrease = decrease_of_impurity(estimator)
    if decrease is None:
        return np.asarray(estimator.feature_importances_)
    decrease = np.asarray(decrease)
    return decrease / (decrease.sum() or 1.0)  # all 0 for trees without a split


def _history(estimator: Any) -> list[dict[str, Any]]:
    """Returns the losses of each epoch; empty if the estimator does not keep them."""
    if hasattr(estimator, "loss_curve_"):
        return [{"member": 1, "epoch": n + 1, "loss": loss} for n, loss in enumerate(estimator.loss_curve_)]
    return [asdict(epoch) for epoch in getattr(estimator, "history", [])]


def _calibration(data: Data, predicted: dict[str, Predicted]) -> list[dict[str, Any]]:
    return [
        {"split": split, **row}
        for split, found in predicted.items()
        if found.probabilities is not None
        for row in scoring.calibration(data.y["genre"][split], found.probabilities)
    ]


def _predictions(job: Job, data: Data, predicted: dict[str, Predicted]) -> Iterator[pa.Table]:
    names = np.array(job.genres, dtype=object)
    for split, found in predicted.items():
        for task, y_pred in found.values.items():
            is_genre = task == "genre"
            for rows in blocks_of(len(y_pred)):
                n_rows = rows.stop - rows.start
                guesses = names[y_pred[rows]] if is_genre else [None] * n_rows
                yield pa.table(
                    {
                        "result": [job.result] * n_rows,
                        "task": [task] * n_rows,
                        "split": [split] * n_rows,
                        "track_id": data.track_id[split][rows],
                        "y_true": data.y[task][split][rows].astype(np.float64),
                        "y_pred": y_pred[rows].astype(np.float64),
                        "true_genre": pa.array(names[data.y["genre"][split][rows]], pa.string()),
                        "predicted_genre": pa.array(guesses, pa.string()),
                    },
                    schema=PREDICTIONS,
                )


def _peak_rss_mb() -> float:
    """Returns the peak memory of this process so far, in MiB, including imported libraries."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0)

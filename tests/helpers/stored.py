"""What tests store without training: candidates for champions, and trials of searches."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.compute.processes import Outcome
from tasks.prediction.champions import Candidate
from tasks.specs import Cell
from tasks.storage.warehouse import Warehouse
from tasks.training.cell_files import PREDICTIONS, REPLICATES, RESULT
from tasks.training.tuning import open_search

DRAWS = np.random.default_rng(0).normal(size=(3, 1000))  # what all share, and two models' own


def candidate(
    warehouse: Warehouse,
    name: str,
    value: float,
    *,
    seconds: float = 1.0,
    own: np.ndarray | None = None,
    rows: int = 50,
    model: str = "xgboost",
    protocol: str = "cold_start",
    budget: str = "full",
    staging: str = "s",
) -> Candidate:
    """A genre cell whose replicates are `value`, a part that all cells share, and its own; stored where they are."""
    cell = Cell(protocol=protocol, task="genre", model=model, feature_set="all", seed=42, budget=budget)
    with warehouse.new_folder(warehouse.cell(name)) as folder:
        draws = value + 0.02 * DRAWS[0] + (0 if own is None else own)
        row = {"result": name, "task": "genre", "split": "val", "metric": "accuracy", "replicates": draws}
        pq.write_table(pa.Table.from_pylist([row], REPLICATES), folder / "replicates.parquet")
        shared = {"result": name, "task": "genre", "split": "val", "y_true": 0.0, "y_pred": 0.0}
        predictions = [{**shared, "track_id": at} for at in range(rows)]
        pq.write_table(pa.Table.from_pylist(predictions, PREDICTIONS), folder / "predictions.parquet")
        pq.write_table(RESULT.empty_table(), folder / "result.parquet")
    return Candidate(
        task="genre", cell=cell, run_id="r", started_at=datetime.now(UTC), source="f", catalogue="/f",
        is_generated=False,
        staging_version=staging, feature_version="v", cell_key=name, result=name, model_path=f"cells/{name}/model.ubj",
        model_sha256="", predict_seconds=seconds, metric="accuracy", value=value, ci_low=None, ci_high=None,
    )  # fmt: skip


def cross_validated(
    warehouse: Warehouse, one: Candidate, *values: float, own: np.ndarray | None = None, fold_seed: int | None = None
) -> Candidate:
    """The candidate with folds of 100 rows, of which those have the figures `values`, stored where they are."""
    names = tuple(f"{one.result}-fold{at}" for at in range(len(values)))
    for name, value in zip(names, values, strict=True):
        of_test = {"task": one.task, "split": "test", "metric": one.metric}
        with warehouse.new_folder(warehouse.cell(name)) as folder:
            draws = value + 0.02 * DRAWS[0] + (0 if own is None else own)
            row = {"result": name, **of_test, "replicates": draws}
            pq.write_table(pa.Table.from_pylist([row], REPLICATES), folder / "replicates.parquet")
            figures = [{**of_test, "slice": "all", "n": 100, "value": value}]
            empty = {field.name: [] for field in RESULT if pa.types.is_list(field.type)}
            at = datetime.now(UTC)
            texts = {"result": name, "params": "{}", "feature_version": "v", "started_at": at, "finished_at": at}
            numbers = {"fit_seconds": 1.0, "predict_seconds": 1.0, "peak_rss_mb": 1.0, "n_train": 400}
            row = {**empty, **texts, **numbers, "metrics": figures}
            pq.write_table(pa.Table.from_pylist([row], RESULT), folder / "result.parquet")
    return replace(one, folds=names, fold_seed=fold_seed)


def try_until(n, job, home) -> tuple[str, list[dict]]:
    """Trials that take no time; returns the search's name and the settings tried."""
    tried = []
    with open_search(job, home) as search:
        while search.n_finished < n:
            trial = search.ask()
            tried.append(trial.parameters)
            search.tell(trial, Outcome("ok", trial.parameters["max_features"]), 0.1)
        return search.name, tried


def trial_rows(home) -> list[dict]:
    return sorted(pl.read_parquet(home.files("tuning", "trials")).to_dicts(), key=lambda row: row["number"])

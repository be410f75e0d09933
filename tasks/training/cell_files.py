"""The stored files of a finished cell: its result, bootstrap replicates and predictions; and functions to find them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.storage.damage import read_rows, whole_cells
from tasks.storage.warehouse import LAST_OF_CELL, Warehouse

RESULT = pa.schema(
    [
        pa.field("result", pa.string(), nullable=False),
        pa.field("started_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("finished_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("fit_seconds", pa.float64(), nullable=False),
        pa.field("predict_seconds", pa.float64(), nullable=False),
        pa.field("peak_rss_mb", pa.float64(), nullable=False),
        pa.field("n_train", pa.int64(), nullable=False),
        pa.field("sampled_from", pa.int64()),  # the rows that the n_train rows are a sample of; NULL: no sample
        pa.field("sample_reason", pa.string()),
        pa.field("params", pa.string(), nullable=False),
        pa.field("feature_version", pa.string(), nullable=False),
        pa.field("model_path", pa.string()),
        pa.field("model_sha256", pa.string()),
        # The next two are NULL in results of earlier versions.
        pa.field("test_rows", pa.string()),  # a digest of the test rows: scores on equal rows can be paired
        pa.field(
            "popularity_errors",
            pa.list_(
                pa.struct(
                    {
                        "split": pa.string(),
                        "bucket_by": pa.string(),
                        "bucket": pa.string(),
                        "n": pa.int64(),
                        "rmse": pa.float64(),
                        "mae": pa.float64(),
                        "bias": pa.float64(),
                    }
                )
            ),
        ),
        pa.field(
            "metrics",
            pa.list_(
                pa.struct(
                    {
                        "task": pa.string(),
                        "split": pa.string(),
                        "slice": pa.string(),
                        "n": pa.int64(),
                        "metric": pa.string(),
                        "value": pa.float64(),
                        "ci_low": pa.float64(),
                        "ci_high": pa.float64(),
                    }
                )
            ),
            nullable=False,
        ),
        pa.field(
            "confusion",
            pa.list_(
                pa.struct(
                    {
                        "split": pa.string(),
                        "true_genre": pa.string(),
                        "predicted_genre": pa.string(),
                        "n": pa.int64(),
                    }
                )
            ),
            nullable=False,
        ),
        pa.field(
            "importance",
            pa.list_(
                pa.struct(
                    {
                        "task": pa.string(),
                        "feature_name": pa.string(),
                        "importance": pa.float64(),
                        "method": pa.string(),
                    }
                )
            ),
            nullable=False,
        ),
        pa.field(
            "history",
            pa.list_(
                pa.struct(
                    {
                        "member": pa.int64(),
                        "epoch": pa.int64(),
                        "loss": pa.float64(),
                        "val_loss": pa.float64(),
                    }
                )
            ),
            nullable=False,
        ),
        pa.field(
            "members",  # of an ensemble; NULL in results of earlier versions
            pa.list_(
                pa.struct(
                    {
                        "task": pa.string(),  # NULL in results of earlier versions, of ensembles for one task
                        "name": pa.string(),
                        "weight": pa.float64(),
                        "out_of_fold": pa.float64(),
                    }
                )
            ),
        ),
        pa.field(
            "calibration",
            pa.list_(
                pa.struct(
                    {
                        "split": pa.string(),
                        "bin": pa.int64(),
                        "n": pa.int64(),
                        "confidence": pa.float64(),
                        "accuracy": pa.float64(),
                    }
                )
            ),
            nullable=False,
        ),
    ]
)
# Bootstrap replicates of each split's metrics (tasks/evaluation/bootstrap.py), from which comparisons are made.
REPLICATES = pa.schema(
    [
        pa.field("result", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("replicates", pa.list_(pa.float32()), nullable=False),
    ]
)
# y_true and y_pred are popularity points, or genre codes (features.genre_mapping); the genres' names stand beside them.
PREDICTIONS = pa.schema(
    [
        pa.field("result", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("track_id", pa.int64(), nullable=False),
        pa.field("y_true", pa.float64(), nullable=False),
        pa.field("y_pred", pa.float64(), nullable=False),
        pa.field("true_genre", pa.string()),
        pa.field("predicted_genre", pa.string()),
    ]
)


def find_result(key: str, warehouse: Warehouse) -> str | None:
    """Returns the newest stored result of a cell, from any run. Damaged results are set aside."""
    for result in reversed(whole_cells(warehouse.results(key), warehouse, f"{key}-")):
        if _sampling(result, warehouse):
            return result
    return None


def sample_of(result: str, warehouse: Warehouse) -> str | None:
    """Says on how large a sample of its training rows a stored cell was trained, and why; None: on all rows."""
    row = _sampling(result, warehouse)
    if row is None or row["sampled_from"] is None:
        return None
    of = f"{row['n_train']:,} of {row['sampled_from']:,} rows"
    return f"trained on a stratified sample, {of}, because {row['sample_reason']}"


def _sampling(result: str, warehouse: Warehouse) -> dict[str, Any] | None:
    """Returns n_train, sampled_from and sample_reason of a stored cell; None: its result is missing or damaged."""
    columns = pa.schema([RESULT.field(name) for name in ("n_train", "sampled_from", "sample_reason")])
    rows = read_rows([warehouse.here(warehouse.cell(result) / LAST_OF_CELL)], columns, warehouse).to_pylist()
    return rows[0] if rows else None


def read_replicates(results: Iterable[str], warehouse: Warehouse) -> dict[tuple[str, str, str], np.ndarray]:
    """Reads the bootstrap replicates of the test metrics of stored results.

    Damaged files are left out, and their cells are set aside.

    Returns: by (result, task, metric), an array of shape (n_replicates,).
    """
    files = [warehouse.cell(result) / "replicates.parquet" for result in results]
    warehouse.fetch(files)
    stored = read_rows(files, REPLICATES, warehouse)
    return {
        (row["result"], row["task"], row["metric"]): values.values.to_numpy()
        for row, values in zip(stored.drop("replicates").to_pylist(), stored["replicates"], strict=True)
        if row["split"] == "test"
    }

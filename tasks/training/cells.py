"""A cell's key, and what is stored of a finished cell: one row of results and one file of predictions."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.features.build import genres_of
from tasks.features.registry import BuiltTable
from tasks.models.registry import spec_of
from tasks.specs import BUDGETS, FEATURE_SETS, SLICES, Cell
from tasks.storage import duck
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
        pa.field("sampled_from", pa.int64()),  # so many rows those n_train are a sample of; NULL: they are all
        pa.field("sample_reason", pa.string()),
        pa.field("params", pa.string(), nullable=False),
        pa.field("feature_version", pa.string(), nullable=False),
        pa.field("model_path", pa.string()),
        pa.field("model_sha256", pa.string()),
        # These two are NULL in results of before they were kept.
        pa.field("test_rows", pa.string()),  # a digest of which they are: figures of equal ones can be paired
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
# What comparisons are made from: bootstrap replicates of each split's metrics (tasks/evaluation/bootstrap.py).
REPLICATES = pa.schema(
    [
        pa.field("result", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("replicates", pa.list_(pa.float32()), nullable=False),
    ]
)
# y_true and y_pred are popularity points, or genre codes (features.genre_mapping) with the genres' names beside them.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that a training process needs to know; small, so that it can be handed to any process."""

    cell: Cell
    key: str
    result: str  # the folder below `cells/` that the finished cell will have: <key>-<run_id>
    feature_version: str
    staging_version: str  # of the tracks that everything else is made from
    table: str  # the feature table's Parquet file, below the warehouse
    split_table: str  # features.split_assignment, likewise
    genres: tuple[str, ...]  # by genre code
    warehouse: str  # its address
    threads: int
    cluster: str | None = None  # the Dask scheduler's address, of a cell that several workers fit together

    @property
    def is_stored(self) -> bool:
        """Whether its run has its result."""
        warehouse = Warehouse.at(self.warehouse)
        return warehouse.here(warehouse.cell(self.result) / LAST_OF_CELL).exists()


def make_jobs(
    cells: list[Cell], tables: list[BuiltTable], run_id: str, warehouse: Warehouse, threads: int
) -> list[Job]:
    """The jobs that train `cells` for a run, each on the table that its feature set and protocol name."""
    built = {(table.table_name, table.protocol): table for table in tables}
    mapping = built["features.genre_mapping", None]
    genres = genres_of(mapping, warehouse)
    jobs = []
    for cell in cells:
        table = built[table_name(cell), cell.protocol]
        key = cell_key(cell, table.version)
        jobs.append(
            Job(
                cell=cell,
                key=key,
                result=f"{key}-{run_id}",
                feature_version=table.version,
                staging_version=built["staging.stg_tracks", None].version,
                table=table.path,
                split_table=built["features.split_assignment", cell.protocol].path,
                genres=genres,
                warehouse=warehouse.address,
                threads=threads,
            )
        )
    return jobs


def table_name(cell: Cell) -> str:
    """The feature table that a cell trains on."""
    return f"features.{'tracks_multitask' if cell.task == 'multitask' else FEATURE_SETS[cell.feature_set].table}"


def cell_key(cell: Cell, feature_version: str) -> str:
    """A digest of everything that decides a cell's result; the number of threads does not."""
    spec = spec_of(cell)
    budget = BUDGETS[cell.budget]
    return duck.digest(
        feature_version,
        cell.task,
        cell.model,
        (
            cell.feature_set,
            FEATURE_SETS[cell.feature_set].columns,
            spec.dtype,
            spec.importance,
            SLICES,
            spec.stream is None,
        ),
        cell.seed if spec.is_stochastic or spec.importance == "permutation" else "any seed",
        parameters_json(cell),
        (budget.name, budget.max_train_rows, budget.importance_rows),
        sorted(spec.versions().items()),
        code_version(spec.build),
        *([] if cell.train_rows is None else [cell.train_rows]),
        *([] if cell.workers is None else [_spread_version()]),
    )


def parameters_json(cell: Cell) -> str:
    """The model's settings as they are stored, with the number of workers where several fit it together."""
    together = {} if cell.workers is None else {"dask_workers": cell.workers}
    return json.dumps(spec_of(cell).parameters_for(cell.budget) | together, sort_keys=True)


def find_result(key: str, warehouse: Warehouse) -> str | None:
    """The newest stored result of a cell, whichever run trained it; a damaged one is set aside."""
    for result in reversed(whole_cells(warehouse.results(key), warehouse, f"{key}-")):
        if _sampling(result, warehouse):
            return result
    return None


def sample_of(result: str, warehouse: Warehouse) -> str | None:
    """In words, on how many of how many training rows a stored cell was trained, and why not on all; None: on all."""
    row = _sampling(result, warehouse)
    if row is None or row["sampled_from"] is None:
        return None
    of = f"{row['n_train']:,} of {row['sampled_from']:,} rows"
    return f"trained on a stratified sample, {of}, because {row['sample_reason']}"


def _sampling(result: str, warehouse: Warehouse) -> dict[str, Any] | None:
    """How many rows a stored cell was trained on, and why not on all; None: its result is gone or damaged."""
    columns = pa.schema([RESULT.field(name) for name in ("n_train", "sampled_from", "sample_reason")])
    rows = read_rows([warehouse.here(warehouse.cell(result) / LAST_OF_CELL)], columns, warehouse).to_pylist()
    return rows[0] if rows else None


def read_replicates(results: Iterable[str], warehouse: Warehouse) -> dict[tuple[str, str, str], np.ndarray]:
    """The bootstrap replicates of stored results' test metrics: (result, task, metric) to shape (n_replicates,).

    Those of a damaged file are left out, and its cell is set aside.
    """
    files = [warehouse.cell(result) / "replicates.parquet" for result in results]
    warehouse.fetch(files)
    stored = read_rows(files, REPLICATES, warehouse)
    return {
        (row["result"], row["task"], row["metric"]): values.values.to_numpy()
        for row, values in zip(stored.drop("replicates").to_pylist(), stored["replicates"], strict=True)
        if row["split"] == "test"
    }


@cache
def code_version(build: Any) -> str:
    """Of the code that trains and scores: its syntax tree, so that comments and layout do not count."""
    from tasks.evaluation import bootstrap, metrics
    from tasks.models import inference, rows, streaming
    from tasks.training import large_tables, train

    builders = _functions_of(build)
    code = "".join(map(inspect.getsource, builders))
    own = [module for name in ("ensemble", "mlp", "multitask", "svm") if (module := f"tasks.models.{name}") in code]
    shared = [train, inference, large_tables, rows, metrics, streaming, bootstrap, *builders]
    used: list[ModuleType | Any] = [*shared, *(importlib.import_module(name) for name in own)]
    selects = [duck.code(f"training/{name}") for name in ("rows", "chosen_rows")]
    return duck.digest(*(ast.dump(ast.parse(textwrap.dedent(inspect.getsource(code)))) for code in used), *selects)


def _spread_version() -> str:
    """Of the code that several workers fit a model with."""
    from tasks.training import dask_xgboost

    return duck.digest(ast.dump(ast.parse(inspect.getsource(dask_xgboost))))


def _functions_of(build: Any) -> list[Any]:
    """A builder and those of its module that it names: an ensemble is made of other models."""
    named = [build.__globals__.get(name) for name in build.__code__.co_names]
    return [build, *(found for one in named if inspect.isfunction(one) for found in _functions_of(one))]

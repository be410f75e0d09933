"""Provides a cell's rows of a table too large for memory: rows on disk, and a sample in memory for models that need it.

DuckDB sorts the rows into a scratch folder, once for each cell, from where they are read one slice at a time. They are
in the order of `position`, so the same rows give the same result no matter how they are stored in the table's file.
That order is random, so a slice is a sample of the split, except that appended tracks come last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from tasks.features import folds
from tasks.models.registry import spec_of
from tasks.models.rows import CHUNK_ROWS, Data, Rows, StoredRows, chunks_of, columns_of
from tasks.models.spec import ModelSpec
from tasks.specs import BUDGETS, EVALUATED, FEATURE_SETS
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse, remove
from tasks.training.jobs import Job, table_name

LARGE_ROWS = 1_000_000  # a table with more rows stays on disk; a smaller one takes less than 1 GiB in memory
SORT_MEMORY = "512MB"  # DuckDB's memory limit; it spills the rest to disk
# The sample for a model that needs its rows in memory: as many rows as the study trained it on, and chose its settings
# for. With them a forest of 1,000 trees takes 2.3 GB. It grows with the rows, and an SVM's time with their square.
SUBSAMPLE_ROWS = 35_000
WATCHED_ROWS = 50_000  # rows of the validation split for models that watch it while they train


def is_large(job: Job) -> bool:
    """Whether the table of a job's cell is so large that its rows stay on disk."""
    table = pl.scan_parquet(Warehouse.to_read(job.warehouse).here(job.table))
    return bool(table.select(pl.len()).collect().item() > LARGE_ROWS)


@dataclass(frozen=True, slots=True)
class _Scratch:
    """The scratch folder of a cell's sorted rows, and the DuckDB connection that sorts them."""

    folder: Path
    connection: duckdb.DuckDBPyConnection
    spec: ModelSpec
    features: list[str]
    shares: int | None  # the number of Dask workers that share the training rows; None: one process
    n_asked: int  # training rows that the budget allows and the cell asks for
    n_train: int  # training rows that it gets: fewer, if the model needs them in memory
    is_chosen: bool  # whether n_train is less than all training rows of the table

    @property
    def grouped(self) -> tuple[str, ...]:
        """The splits whose rows have their group."""
        return ("train", *EVALUATED) if self.spec.cross_fits else EVALUATED

    def write(self, split: str, share: int | None = None) -> Path:
        """Writes the sorted rows of a split, or one worker's share of them, to a file. Returns: the file."""
        columns = {"features": list(map(duck.identifier, self.features)), "is_chosen": self.is_chosen}
        columns |= {"number": "float" if self.spec.dtype == "float32" else "double"}
        columns |= {"is_evaluated": split in EVALUATED, "share": share, "shares": self.shares}
        columns["has_groups"] = split in self.grouped
        file = self.folder / f"{split}.parquet"
        select = duck.render("training/rows", split=split, **columns)
        self.connection.execute(duck.copy(select, file, LARGE_ROWS))
        return file

    def x(self, file: Path) -> StoredRows:
        """Returns the features of a file's rows."""
        return StoredRows(file, tuple(self.features), self.spec.dtype, pq.read_metadata(file).num_rows)

    def y(self, file: Path, task: str) -> StoredRows:
        """Returns a target of a file's rows: genre codes or popularity."""
        column, dtype = ("genre_id", "int64") if task == "genre" else ("target_popularity", self.spec.dtype)
        return StoredRows(file, column, dtype, pq.read_metadata(file).num_rows)


@contextmanager
def stored(job: Job) -> Iterator[Data]:
    """Yields a cell's rows of a large table, on disk. Up to CHUNK_ROWS training rows are read into memory.

    A model that cannot be fitted out of core gets a stratified sample of the training rows that the budget allows and
    the cell asks for. Training rows that several Dask workers fit to are left out: the workers read them (`share_of`).
    """
    splits = EVALUATED if job.cell.workers else ("train", *EVALUATED)
    with _scratch(job) as scratch:
        files = {split: scratch.write(split) for split in splits}
        scratch.connection.close()  # frees its memory
        yield _data(scratch, files)


def share_of(job: Job, share: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads the training rows of one of a cell's Dask workers into memory.

    Args: share: the number of the worker, from 0.

    Returns: x, shape (n_rows, n_features), and y of the cell's task, shape (n_rows,), in the order of position.
    """
    with _scratch(job) as scratch:
        file = scratch.write("train", share)
        scratch.connection.close()
        stored_x = scratch.x(file)
        x = np.empty((len(stored_x), len(scratch.features)), scratch.spec.dtype)
        for rows in chunks_of(stored_x):
            x[rows] = stored_x[rows]
        return x, scratch.y(file, job.cell.task)[:]


@contextmanager
def _scratch(job: Job) -> Iterator[_Scratch]:
    """Yields a cell's scratch folder, which is removed at the end of the block."""
    spec = spec_of(job.cell)
    warehouse = Warehouse.to_read(job.warehouse)
    folder = warehouse.temporary(job.result)
    folder.mkdir()
    try:
        with duck.connect(spill=folder) as connection:
            connection.execute(f"set memory_limit = '{SORT_MEMORY}'; set threads = {job.threads}")
            show_table(job, warehouse, connection)
            columns = connection.sql("from features.trained_table limit 0").columns
            features = columns_of(FEATURE_SETS[job.cell.feature_set], columns)
            yield _Scratch(folder, connection, spec, features, job.cell.workers, *_choose_rows(connection, job, spec))
    finally:
        remove(folder)


def show_table(job: Job, warehouse: Warehouse, connection: duckdb.DuckDBPyConnection) -> None:
    """Makes features.trained_table, the feature table of a job's cell, and features.split_assignment."""
    if job.cell.fold:
        files = {name: warehouse.here(path) for name, path in job.fold_tables}
        folds.rows_of(table_name(job.cell), job.cell.protocol, job.cell.fold, files, connection)
        connection.execute(f"create view features.trained_table as from {table_name(job.cell)}")
    else:
        duck.view(connection, "features.trained_table", warehouse.here(job.table))
        duck.view(connection, "features.split_assignment", warehouse.here(job.split_table))


def _choose_rows(connection: duckdb.DuckDBPyConnection, job: Job, spec: ModelSpec) -> tuple[int, int, bool]:
    """Makes features.chosen_rows, unless all rows are used. Returns: n_asked, n_train and is_chosen of _Scratch."""
    count = "select count(*) from features.trained_table where split = 'train'"
    [(n_rows,)] = connection.execute(count).fetchall()
    n_allowed = min(n_rows, BUDGETS[job.cell.budget].max_train_rows or n_rows)
    n_asked = min(n_allowed, job.cell.train_rows or n_allowed)
    n_wanted = n_asked if spec.fit_out_of_core else min(n_asked, SUBSAMPLE_ROWS)
    if is_chosen := n_wanted < n_rows:
        select = f"create table features.chosen_rows as {duck.render('training/chosen_rows')}"
        connection.execute(select, {"n_allowed": n_allowed, "n_wanted": n_wanted})
    return n_asked, n_wanted, is_chosen


def _data(scratch: _Scratch, files: dict[str, Path]) -> Data:
    x: dict[str, Rows] = {split: scratch.x(file) for split, file in files.items()}
    y: dict[str, dict[str, Any]] = {
        task: {split: scratch.y(file, task) for split, file in files.items()} for task in ("genre", "popularity")
    }
    for part in y.values():
        part.update({split: part[split][:] for split in EVALUATED})
    if "train" in files and scratch.n_train <= CHUNK_ROWS:
        for part in (x, *y.values()):
            part["train"] = part["train"][:]
    rest = {split: pl.read_parquet(files[split], columns=["track_id", "is_imputed"]) for split in EVALUATED}
    units = {split: pl.read_parquet(files[split], columns=["group_id"]) for split in scratch.grouped}
    return Data(
        features=scratch.features,
        n_train=scratch.n_train,
        x=x,
        y=y,
        track_id={split: part["track_id"].to_numpy() for split, part in rest.items()},
        is_imputed={split: part["is_imputed"].to_numpy() for split, part in rest.items()},
        units={split: part["group_id"].to_numpy() for split, part in units.items()},
        sampled_from=scratch.n_asked if scratch.n_train < scratch.n_asked else None,
    )

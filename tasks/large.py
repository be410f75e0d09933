"""A cell's rows of a table too large for memory: on disk, and what a model needs of them in memory.

DuckDB sorts them into a scratch folder, once a cell, from where they are read a slice at a time. They come in the order
of `position`, not of the file, so that the same rows give the same result however they were written. That order is
random, so that a slice is a sample of the split; but tracks appended later, with statistics kept, stand behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq

from tasks import duck
from tasks.cells import Job
from tasks.models import ModelSpec, spec_of
from tasks.rows import CHUNK_ROWS, Data, Rows, StoredRows
from tasks.specs import BUDGETS, EVALUATED, FEATURE_SETS
from tasks.warehouse import Warehouse, remove

LARGE_ROWS = 1_000_000  # of a table; up to that many, a cell reads them all into less than 1 GiB
SORT_MEMORY = "512MB"  # of DuckDB, which writes the rest to disk
# What a model that needs its rows in memory gets of more: as many as the study trained it on, for which its settings
# were chosen. A forest of 1,000 trees takes 2.3 GB on them, and grows as they do; an SVM takes time by their square.
SUBSAMPLE_ROWS = 35_000
WATCHED_ROWS = 50_000  # of the validation split, for what watches it while it learns


def is_large(job: Job) -> bool:
    """Whether the rows of a cell's table stay on disk."""
    table = pl.scan_parquet(Warehouse.at(job.warehouse).here(job.table))
    return bool(table.select(pl.len()).collect().item() > LARGE_ROWS)


@contextmanager
def stored(job: Job) -> Iterator[Data]:
    """A cell's rows on disk while the block lasts; those to train on in memory, if the model needs them there.

    Of those the budget allows and the cell asks for, a model that cannot stream gets a stratified sample.
    """
    spec = spec_of(job.cell)
    warehouse = Warehouse.at(job.warehouse)
    table, split_table = warehouse.here(job.table), warehouse.here(job.split_table)
    features = FEATURE_SETS[job.cell.feature_set].columns_in(pl.scan_parquet(table).collect_schema().names())
    folder = warehouse.temporary(job.result)
    folder.mkdir()
    try:
        with duck.connect(spill=folder) as connection:
            connection.execute(f"set memory_limit = '{SORT_MEMORY}'; set threads = {job.threads}")
            duck.view(connection, "features.trained_table", table)
            duck.view(connection, "features.split_assignment", split_table)
            n_asked, is_chosen = _choose_rows(connection, job, spec)
            columns = {"features": list(map(duck.identifier, features)), "is_chosen": is_chosen}
            columns["number"] = "float" if spec.dtype == "float32" else "double"
            for split in ("train", *EVALUATED):
                select = duck.render("training/rows", split=split, is_evaluated=split in EVALUATED, **columns)
                connection.execute(duck.copy(select, folder / f"{split}.parquet", LARGE_ROWS))
        yield _data(folder, features, spec, n_asked)
    finally:
        remove(folder)


def _choose_rows(connection: duckdb.DuckDBPyConnection, job: Job, spec: ModelSpec) -> tuple[int, bool]:
    """Make features.chosen_rows, unless all rows are trained on.

    Returns: how many rows the budget allows and the cell asks for, and whether not all that there are are chosen.
    """
    count = "select count(*) from features.trained_table where split = 'train'"
    [(n_rows,)] = connection.execute(count).fetchall()
    n_allowed = min(n_rows, BUDGETS[job.cell.budget].max_train_rows or n_rows)
    n_asked = min(n_allowed, job.cell.train_rows or n_allowed)
    n_wanted = n_asked if spec.stream else min(n_asked, SUBSAMPLE_ROWS)
    if is_chosen := n_wanted < n_rows:
        select = f"create table features.chosen_rows as {duck.render('training/chosen_rows')}"
        connection.execute(select, {"n_allowed": n_allowed, "n_wanted": n_wanted})
    return n_asked, is_chosen


def _data(folder: Path, features: list[str], spec: ModelSpec, n_asked: int) -> Data:
    files = {split: folder / f"{split}.parquet" for split in ("train", *EVALUATED)}
    n_rows = {split: pq.read_metadata(file).num_rows for split, file in files.items()}

    def rows(columns: tuple[str, ...] | str, dtype: str) -> dict[str, StoredRows]:
        return {split: StoredRows(file, columns, dtype, n_rows[split]) for split, file in files.items()}

    x: dict[str, Rows] = {**rows(tuple(features), spec.dtype)}
    y: dict[str, dict[str, Any]] = {
        "genre": {**rows("genre_id", "int64")},
        "popularity": {**rows("target_popularity", spec.dtype)},
    }
    for part in y.values():
        part.update({split: part[split][:] for split in EVALUATED})
    if n_rows["train"] <= CHUNK_ROWS:
        for part in (x, *y.values()):
            part["train"] = part["train"][:]
    rest = {split: pl.read_parquet(files[split], columns=["track_id", "is_imputed", "group_id"]) for split in EVALUATED}
    return Data(
        features=features,
        x=x,
        y=y,
        track_id={split: part["track_id"].to_numpy() for split, part in rest.items()},
        is_imputed={split: part["is_imputed"].to_numpy() for split, part in rest.items()},
        units={split: part["group_id"].to_numpy() for split, part in rest.items()},
        sampled_from=n_asked if n_rows["train"] < n_asked else None,
    )

"""Publication: build `music.duckdb` from the stored files under a temporary name, then swap it in by rename."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import duck, runs
from tasks.cells import PREDICTIONS, RESULT
from tasks.features import REGISTRY, TABLES, BuiltTable, read_registry
from tasks.ingest import SNAPSHOT, Snapshot, attach
from tasks.warehouse import Warehouse

RESULT_TABLES = ("runs", "cells", "metrics", "confusion", "importance")
RESULT_VIEWS = ("scores", "latest", "leaderboard", "parity", "leak_ledger")


def publish(snapshot: Snapshot, features: list[BuiltTable], warehouse: Warehouse) -> Path:
    """Publish everything stored so far; raw, staging and feature tables are those of `snapshot` and `features`.

    Readers of the file it replaces keep what they have open. Publications wait for one another, so none is lost.
    """
    with warehouse.lock("publish"):
        temporary = warehouse.temporary("music")
        try:
            with duck.connect(temporary, spill=warehouse.root / "tmp") as connection:
                _raw_tables(connection, snapshot, warehouse)
                _feature_tables(connection, features, warehouse)
                _result_tables(connection, warehouse)
            with warehouse.replacing(warehouse.database) as ready:
                temporary.rename(ready)
        finally:
            temporary.unlink(missing_ok=True)
    return warehouse.database


def _raw_tables(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot, warehouse: Warehouse) -> None:
    attach(connection, snapshot.snapshot, warehouse)
    _load(connection, "raw.snapshots", _read(warehouse.files("raw", "snapshots"), SNAPSHOT))


def _feature_tables(connection: duckdb.DuckDBPyConnection, features: list[BuiltTable], warehouse: Warehouse) -> None:
    for table in TABLES:
        paths = {warehouse.root / row.path for row in features if row.table_name == table.name}
        duck.view(connection, table.name, *sorted(paths))
    connection.execute(f"create view features.statistics as {duck.render('features/statistics')}")
    registry = [{name: getattr(row, name) for name in REGISTRY.names} for row in read_registry(warehouse)]
    _load(connection, "features.registry", pa.Table.from_pylist(registry, schema=REGISTRY))


def _result_tables(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse) -> None:
    started = _read(warehouse.files("runs", "started"), runs.STARTED)
    alive = [runs.is_alive(row["host"], row["pid"], row["pid_started"]) for row in started.to_pylist()]
    finished = _read(warehouse.files("runs", "finished"), runs.FINISHED)
    used = {cell["result"] for cells in finished["cells"].to_pylist() for cell in cells if cell["result"]}
    folders = [folder for folder in map(warehouse.cell, sorted(used)) if (folder / "result.parquet").exists()]
    connection.register("stored_started", started.append_column("is_alive", pa.array(alive, pa.bool_())))
    connection.register("stored_finished", finished)
    connection.register("stored_results", _read([folder / "result.parquet" for folder in folders], RESULT))
    for name in RESULT_TABLES:
        connection.execute(f"create table results.{name} as {duck.render(f'results/{name}')}")
    published = {"published_csv": str(duck.SQL_ROOT / "results" / "published.csv")}
    connection.execute(f"create table results.published as {duck.render('results/published')}", published)

    if folders:
        files = ", ".join(duck.literal(folder / "predictions.parquet") for folder in folders)
        stored = f"read_parquet([{files}], hive_partitioning = false)"
    else:
        stored = "results.no_predictions"
        _load(connection, stored, PREDICTIONS.empty_table())
    predictions = duck.render("results/predictions", stored_predictions=stored)
    connection.execute(f"create view results.predictions as {predictions}")
    for name in RESULT_VIEWS:
        connection.execute(f"create view results.{name} as {duck.render(f'results/{name}')}")


def _read(files: list[Path], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *(pq.read_table(file, schema=schema) for file in files)])


def _load(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    connection.register("loading", rows)
    connection.execute(f"create table {name} as select * from loading")
    connection.unregister("loading")

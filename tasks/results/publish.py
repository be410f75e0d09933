"""Publication: builds `music.duckdb` from the stored files under a temporary name, then swaps it in.

A local warehouse swaps it in by a rename. In a remote warehouse readers fetch a file piece by piece, so each database
has a new name, and `manifest.json`, which names it, is written last (tasks/results/open_tables.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tasks.evaluation.comparisons import Replicates, contrast
from tasks.evaluation.cross_validation import pool
from tasks.features import folds
from tasks.features.registry import REGISTRY, BuiltTable, read_registry
from tasks.features.tables import Table, every_table
from tasks.ingest.columns import MEASURED
from tasks.ingest.snapshots import SNAPSHOT, Snapshot, attach
from tasks.prediction.champions import CHAMPIONS
from tasks.results import descriptions, open_tables
from tasks.specs import FEATURE_SETS, METRICS, PROBES, PROTOCOLS
from tasks.storage import duck
from tasks.storage.checksums import WriteError
from tasks.storage.damage import read_rows, whole_cells
from tasks.storage.warehouse import LAST_OF_CELL, Warehouse, remove_database
from tasks.training import drift, runs
from tasks.training.catalogues import Catalogues
from tasks.training.cell_files import PREDICTIONS, RESULT, read_replicates
from tasks.training.tuning import TRIALS

RESULT_TABLES = (
    "runs",
    "catalogues",
    "cells",
    "metrics",
    "confusion",
    "importance",
    "history",
    "calibration",
    "trials",
    "champions",
    "drift",
    "learning_curve",
    "ensemble_members",
    "fold_cells",
    "fold_metrics",
)
NEWEST_TABLES = ("figures", "popularity_errors")
CONTRASTS = ("comparisons", "inflation", "learning_gains")  # of single splits
RESULT_VIEWS = (
    "scores",
    "leaderboards",
    "leaderboard",
    "parity",
    "leak_ledger",
    "genres",
    "genre_pairs",
    "ceiling",
)
# Of a publication without folds, so that queries find the columns.
FOLD_TABLES = {
    folds.ASSIGNMENT: pa.schema(
        {
            "protocol": pa.string(),
            "folds": pa.int64(),
            "fold_seed": pa.int64(),
            "track_id": pa.int64(),
            "part": pa.int64(),
            "position": pa.int64(),
            "group_id": pa.int64(),
        }
    ),
    folds.STATISTICS: pa.schema(
        {
            "protocol": pa.string(),
            "feature_name": pa.string(),
            "statistic": pa.string(),
            "genre": pa.string(),
            "value": pa.float64(),
            "folds": pa.int64(),
            "fold_seed": pa.int64(),
            "fold": pa.int64(),
        }
    ),
}
FEATURE_SET = pa.schema(
    [
        pa.field("feature_set", pa.string(), nullable=False),
        pa.field("columns", pa.list_(pa.string())),
        pa.field("leaks", pa.string()),
    ]
)
PROTOCOL = pa.schema(
    [
        pa.field("protocol", pa.string(), nullable=False),
        pa.field("description", pa.string()),
        pa.field("split", pa.string()),
        pa.field("is_probe", pa.bool_(), nullable=False),
    ]
)


def publish(snapshot: Snapshot, features: list[BuiltTable], warehouse: Warehouse) -> Path:
    """Publishes everything stored so far, with the raw, staging and feature tables of `snapshot` and `features`.

    Readers of the replaced file keep what they have open. A lock makes publications of one machine wait for one
    another. A remote warehouse is published again until no run ended meanwhile, so that no run is lost.
    """
    with warehouse.lock("publish"):
        while True:
            ended = _ended(warehouse)
            _publish(snapshot, features, warehouse)
            if not warehouse.is_remote or ended >= _ended(warehouse):
                return warehouse.database


def _ended(warehouse: Warehouse) -> set[Path]:
    """Returns the published records that other machines may add to."""
    names = (("runs", "finished"), ("champions", "decisions"))
    return {file for name in names for file in warehouse.files(*name)}


def _publish(snapshot: Snapshot, features: list[BuiltTable], warehouse: Warehouse) -> None:
    publication = open_tables.new_publication()
    temporary = warehouse.temporary("music")
    own = open_tables.folder_of(publication, warehouse)
    try:
        with warehouse.new_folder(own) as folder:
            with duck.connect(temporary, spill=warehouse.scratch) as connection:
                warehouse.let_read(connection)
                _raw_tables(connection, snapshot, warehouse)
                _feature_tables(connection, features, warehouse)
                predictions = _result_tables(connection, warehouse)
                files = open_tables.export(connection, folder, publication)
                files += open_tables.stored(features, predictions, warehouse)
                files = open_tables.register(connection, files, folder, publication)
                descriptions.comment(connection)
                contents = duck.contents(connection)
                connection.execute("checkpoint")  # closing does the same, but hides a failure
            _check(temporary, contents)
            if warehouse.is_remote:
                temporary.rename(folder / "music.duckdb")
        database = own / "music.duckdb" if warehouse.is_remote else temporary
        with open_tables.naming(publication, files, database, warehouse):
            if not warehouse.is_remote:
                with warehouse.replacing(warehouse.database, is_rewritten=True) as ready:
                    temporary.rename(ready)
    except BaseException:
        warehouse.discard(own)
        raise
    finally:
        remove_database(temporary)
    open_tables.remove_superseded(publication, warehouse)


def _check(database: Path, contents: duck.Contents) -> None:
    """Checks the file just written. Raises: WriteError: it does not hold all of `contents`."""
    if not database.with_name(f"{database.name}.wal").exists():
        with duckdb.connect(str(database), read_only=True) as connection:
            if duck.contents(connection) == contents:
                return
    raise WriteError("music.duckdb: was not written whole. Is the disk full? What was published before stays.")


def _raw_tables(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot, warehouse: Warehouse) -> None:
    attach(connection, snapshot.snapshot, warehouse, is_published=True)
    snapshots = read_rows(warehouse.files("raw", "snapshots"), SNAPSHOT, warehouse)
    is_published = pc.equal(snapshots["snapshot"], snapshot.snapshot)
    _load(connection, "raw.snapshots", snapshots.append_column("is_published", is_published))


def _feature_tables(connection: duckdb.DuckDBPyConnection, features: list[BuiltTable], warehouse: Warehouse) -> None:
    for table in every_table():
        paths = {row.path for row in features if row.table_name == table.name}
        if parts := [warehouse.location(part) for path in sorted(paths) for part in warehouse.parts(path)]:
            duck.view(connection, table.name, *parts)
        elif table.is_on_demand:
            _empty_table(connection, table)
    for name, empty in FOLD_TABLES.items():
        if stored := [duck.literal(warehouse.location(row.path)) for row in features if row.table_name == name]:
            select = duck.render("features/published_folds", files=", ".join(stored), columns=empty.names)
            connection.execute(f"create view {name} as {select}")
        else:
            _load(connection, name, empty.empty_table())
    connection.execute(f"create view features.statistics as {duck.render('features/statistics')}")
    registry = [{name: getattr(row, name) for name in REGISTRY.names} for row in read_registry(warehouse)]
    _load(connection, "features.registry", pa.Table.from_pylist(registry, schema=REGISTRY))


def _empty_table(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Creates an empty table for one that the published protocols do not need, so that queries find its columns."""
    protocol = PROTOCOLS["published"]
    select = duck.render(table.select(protocol))
    if table.build:
        _load(connection, table.name, table.build(connection, select, protocol))
    else:
        bound = duck.bound(select, {"artist_separators": []})
        connection.execute(f"create table {table.name} as from ({select}) limit 0", bound)


def _result_tables(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse) -> list[tuple[str, int]]:
    """Creates schema results. Returns: the cells with published predictions, each with its number of rows."""
    catalogues = Catalogues.of(warehouse)
    started = _of_catalogues(read_rows(warehouse.files("runs", "started"), runs.STARTED, warehouse), catalogues)
    alive = [runs.is_alive(row["host"], row["pid"], row["pid_started"]) for row in started.to_pylist()]
    finished = read_rows(warehouse.files("runs", "finished"), runs.FINISHED, warehouse)
    finished = finished.filter(pc.is_in(finished["run_id"], started["run_id"]))  # except those half removed
    used = {cell["result"] for cells in finished["cells"].to_pylist() for cell in cells if cell["result"]}
    whole = [warehouse.cell(result) for result in whole_cells(sorted(used), warehouse)]
    warehouse.fetch(folder / name for folder in whole for name in ("replicates.parquet", LAST_OF_CELL))
    results = read_rows([folder / LAST_OF_CELL for folder in whole], RESULT, warehouse)
    folders = [warehouse.cell(result) for result in results["result"].to_pylist()]
    connection.register("stored_started", started.append_column("is_alive", pa.array(alive, pa.bool_())))
    connection.register("stored_finished", finished)
    connection.register("stored_results", results)
    connection.register("stored_trials", read_rows(warehouse.files("tuning", "trials"), TRIALS, warehouse))
    champions = read_rows(warehouse.files("champions", "decisions"), CHAMPIONS, warehouse)
    connection.register("stored_champions", _of_catalogues(champions, catalogues))
    connection.register("stored_drift", drift.stored(warehouse))
    connection.execute(f"create temp table reported_cells as {duck.render('results/reported_cells')}")
    for name in RESULT_TABLES:
        _create(connection, "table", name)
    published = {"published_csv": str(duck.SQL_ROOT / "results" / "published.csv")}
    connection.execute(f"create table results.published as {duck.render('results/published')}", published)

    if folders:
        files = ", ".join(duck.literal(warehouse.location(folder / "predictions.parquet")) for folder in folders)
        stored = f"read_parquet([{files}], hive_partitioning = false)"
    else:
        stored = "results.no_predictions"
        _load(connection, stored, PREDICTIONS.empty_table())
    for name in ("predictions", "fold_predictions"):
        _create(connection, "view", name, stored_predictions=stored)
    _load(connection, "results.protocols", pa.Table.from_pylist(_protocols(connection), PROTOCOL))
    _load(connection, "results.feature_sets", pa.Table.from_pylist(_feature_sets(connection), FEATURE_SET))
    for name in ("newest", "latest"):
        _create(connection, "view", name)
    for name in NEWEST_TABLES:
        _create(connection, "table", name)
    compare(connection, warehouse)
    _pool_folds(connection, warehouse)
    for name in RESULT_VIEWS:
        _create(connection, "view", name)
    return _predicted(connection)


def _of_catalogues(records: pa.Table, catalogues: Catalogues) -> pa.Table:
    """Returns records with their catalogues, also those of earlier versions, and whether it is the current one."""
    named = [catalogues.of_record(row) for row in records.select(["catalogue", "source", "is_generated"]).to_pylist()]
    is_current = pa.array([name == catalogues.current for name in named], pa.bool_())
    return (
        records.drop_columns("catalogue")
        .append_column("catalogue", pa.array(named, pa.string()))
        .append_column("is_of_current", is_current)
    )


def _predicted(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, int]]:
    """Returns each cell and how many rows it predicted, from its metrics: remote predictions are not fetched."""
    return connection.execute(
        """
        select result, cast(sum(n) as bigint)
        from (
            select distinct result, task, split, n
            from (select result, unnest(metrics, recursive := true) from stored_results)
            where slice = 'all'
        )
        group by result
        order by result
        """
    ).fetchall()


def compare(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse) -> None:
    """Creates results.comparisons, inflation and learning_gains from the bootstrap replicates of the cells."""
    used = connection.execute(
        """
        select unnest(results) as result from results.figures
        union
        select result from results.learning_curve where value is not null
        order by result
        """
    ).fetchall()
    _contrast(CONTRASTS, connection, read_replicates([result for (result,) in used], warehouse))


def _pool_folds(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse) -> None:
    """Creates results.cross_validations, cross_validated and fold_comparisons from the folds' replicates."""
    by_fold = connection.sql(duck.render("results/pooled_folds")).to_arrow_table()
    used = sorted({result for results in by_fold["results"].to_pylist() for result in results})
    figures, pooled = pool(by_fold, read_replicates(used, warehouse))
    connection.register("pooled_folds", figures)
    for name in ("cross_validations", "cross_validated"):
        _create(connection, "table", name)
    _contrast(("fold_comparisons",), connection, pooled)


def _contrast(names: Iterable[str], connection: duckdb.DuckDBPyConnection, replicates: Replicates) -> None:
    """Creates tables of contrasts."""
    for name in names:
        pairs = connection.sql(duck.render(f"results/{descriptions.COMPARED_TABLES[name]}")).to_arrow_table()
        connection.register("contrasted", contrast(pairs, replicates))
        _create(connection, "table", name)
        connection.unregister("contrasted")


def _protocols(connection: duckdb.DuckDBPyConnection) -> list[dict[str, object]]:
    known = [
        {"protocol": spec.name, "description": spec.description, "split": spec.split, "is_probe": spec.is_probe}
        for spec in (*PROTOCOLS.values(), *PROBES.values())
    ]
    more = _of_plugins("protocol", [*PROTOCOLS, *PROBES], connection)
    return known + [{"protocol": name, "is_probe": False} for name in more]


def _feature_sets(connection: duckdb.DuckDBPyConnection) -> list[dict[str, object]]:
    known: list[dict[str, object]] = [
        {"feature_set": spec.name, "columns": list(spec.columns), "leaks": spec.leaks} for spec in FEATURE_SETS.values()
    ]
    more = _of_plugins("feature_set", FEATURE_SETS, connection)
    return known + [{"feature_set": name} for name in more]


def _of_plugins(column: str, known: Iterable[str], connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Returns the names in stored cells that only a plug-in knows which is not loaded now."""
    found = connection.execute(f"select distinct {column} from results.cells order by all").fetchall()
    return sorted({name for (name,) in found} - {*known})


def _create(connection: duckdb.DuckDBPyConnection, kind: str, name: str, **columns: object) -> None:
    select = duck.render(f"results/{name}", metrics=list(METRICS), measured_features=MEASURED, **columns)
    connection.execute(f"create {kind} results.{name} as {select}")


def _load(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    connection.register("loading", rows)
    connection.execute(f"create table {name} as select * from loading")
    connection.unregister("loading")

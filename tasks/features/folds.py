"""The features of a cross-validation: each fold's own statistics, and its rows, which are made where they are read.

Two tables are stored for a protocol and a number of folds: which part each track is in (features.fold_assignment), and
the fill values, scaling and components of each fold (features.fold_statistics), learnt from that fold's training rows
by the SELECTs that make the tables of the single split. The rows of a fold are those of staging.stg_tracks with these
statistics applied, again by the same SELECTs. So K folds take little more room than none.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import UserError
from tasks.features import checks, splits
from tasks.features.full_build import REFITTED_TABLE, STATISTICS_TABLE, refit
from tasks.features.registry import BuiltTable, read_registry, register
from tasks.features.tables import BRIDGES, Chosen, Table, every_table, table_version, template_values
from tasks.ingest.snapshots import Snapshot
from tasks.specs import Protocol, protocol_named
from tasks.storage import duck
from tasks.storage.damage import is_whole
from tasks.storage.warehouse import Warehouse

ASSIGNMENT = "features.fold_assignment"
STATISTICS = "features.fold_statistics"
SPLIT = "features.split_assignment"
FITTED = ("features.fill_values", "features.scaling", "features.pca_loadings")
STORED = ("staging.stg_tracks", "features.genre_mapping", ASSIGNMENT, STATISTICS)  # what a fold's rows are made of
MOST_FOLDS = 50


def check_folds(folds: int | None) -> None:
    """Raises: UserError: a cross-validation cannot have that many folds."""
    if folds is not None and not 2 <= folds <= MOST_FOLDS:
        raise UserError(f"--folds must be from 2 to {MOST_FOLDS}; it is {folds}.")


def build_folds(
    snapshot: Snapshot, protocol: Protocol, folds: int, chosen: Chosen, tables: list[BuiltTable], warehouse: Warehouse
) -> list[BuiltTable]:
    """Makes the two tables of a protocol's cross-validation, unless they are stored, and checks each fold's tables.

    Args: tables: those of the protocol's single split, from which the folds' are made.

    Raises:
        UserError: the snapshot's statistics were kept from another, so that its tracks have no folds.
        InputError, ProtocolError: there are too few tracks for so many folds.
        CheckError: a fold's tables break one of the protocol's rules (sql/checks/).
    """
    if snapshot.statistics == "kept":
        raise UserError(
            f"{snapshot.source} was appended with --statistics kept, so that val and test rows stay as they were. A "
            "cross-validation divides all tracks anew: append with --statistics relearned, or leave out --folds."
        )
    values = {"protocol": protocol.name, **chosen}
    versions = _versions(protocol, folds, values, tables)
    by_fold = {fold: versions | {"fold": str(fold)} for fold in range(1, folds + 1)}
    with warehouse.lock("features"), duck.workspace(spill=warehouse.scratch) as connection:
        registered = {(row.table_name, row.version): row for row in read_registry(warehouse)}
        stored = {name: registered.get((name, versions[name])) for name in (ASSIGNMENT, STATISTICS)}
        kept = {name: row for name, row in stored.items() if row and is_whole(warehouse.root / row.path, warehouse)}
        if len(kept) == len(stored) and not any(checks.due(protocol, of, warehouse) for of in by_fold.values()):
            return list(kept.values())

        def store(name: str, made: pa.Table, started: float) -> BuiltTable:
            read = [versions[at] for at in (*STORED[:2], ASSIGNMENT) if at != name]
            return kept.get(name) or _store(name, made, protocol, versions[name], read, snapshot, warehouse, started)

        for table in tables:
            if table.protocol is None:
                duck.view(connection, table.table_name, *warehouse.parts(table.path))
        started = time.perf_counter()
        assigned = store(ASSIGNMENT, _assignment(connection, protocol, folds), started)
        duck.view(connection, ASSIGNMENT, warehouse.here(assigned.path))
        started = time.perf_counter()
        learnt = []
        for fold, of in by_fold.items():
            _make(connection, protocol, values | {"fold": fold})
            connection.execute(f"create or replace view {STATISTICS_TABLE} as {duck.render('features/statistics')}")
            due = checks.due(protocol, of, warehouse)
            if any(REFITTED_TABLE in duck.upstream(name) for name in due):
                refit(connection, protocol, values, warehouse)
            for name in due:
                checks.run(name, protocol, of, warehouse, connection)
            learnt.append(connection.sql(f"select *, {folds} as folds, {fold} as fold from {STATISTICS_TABLE}"))
            learnt[-1] = learnt[-1].to_arrow_table()
        return [assigned, store(STATISTICS, pa.concat_tables(learnt), started)]


def rows_of(
    table: str, protocol: str, fold: int, stored: Mapping[str, Path], connection: duckdb.DuckDBPyConnection
) -> None:
    """Makes a fold's feature table, by its usual name, and features.split_assignment.

    Args: table: its name. stored: the files of the tables named in STORED. connection: to an empty workspace.
    """
    for name, path in stored.items():
        duck.view(connection, name, path)
    fitted = {
        "features.fill_values": "statistic = 'fill'",
        "features.scaling": "statistic in ('mean', 'std')",
        "features.pca_loadings": "statistic like 'pc%' or statistic = 'explained_variance_ratio'",
    }
    for name, condition in fitted.items():
        connection.execute(
            f"create view {name} as select * exclude (folds, fold) from {STATISTICS} "
            f"where fold = {fold} and ({condition})"
        )
    spec = protocol_named(protocol)
    wanted = {table, SPLIT}
    for made in reversed(_tables()):
        if made.name in wanted:
            wanted |= set(made.upstream(spec))
    _make(connection, spec, {"protocol": protocol, "fold": fold}, wanted - {*FITTED})


def version_of(table: str, protocol: str, fold: int, statistics: str) -> str:
    """Returns the version of a fold's feature table. Args: statistics: that of features.fold_statistics."""
    [made] = [one for one in _tables() if one.name == table]
    return table_version(made, protocol_named(protocol), {"protocol": protocol, "fold": fold}, [statistics, str(fold)])


def _tables() -> list[Table]:
    """Returns the tables that each fold has of its own, in order."""
    split = Table(name=SPLIT, sql=lambda _: "features/fold_split")
    return [split if table.name == SPLIT else table for table in every_table() if table.is_by_protocol]


def _versions(protocol: Protocol, folds: int, values: dict[str, object], tables: list[BuiltTable]) -> dict[str, str]:
    """Returns the versions of the tables that the folds' are made from, and of what is stored, by table name."""
    versions = {table.table_name: table.version for table in tables}
    rules = (duck.code("features/fold_split"), inspect.getsource(_assignment))
    versions[ASSIGNMENT] = duck.digest(ASSIGNMENT, folds, versions[SPLIT], rules)
    read = [versions[name] for name in (*STORED[:2], ASSIGNMENT)]
    learnt = [table_version(table, protocol, values, read) for table in _tables() if not table.expressions]
    return versions | {STATISTICS: duck.digest(STATISTICS, learnt)}


def _assignment(connection: duckdb.DuckDBPyConnection, protocol: Protocol, folds: int) -> pa.Table:
    """Returns features.fold_assignment of a protocol. A track that would link two parts has none."""
    [split] = [table for table in every_table() if table.name == SPLIT]
    tracks = connection.sql(duck.render(split.select(protocol))).to_arrow_table()
    assigned = splits.fold_parts(protocol, tracks, folds)
    if "is_cut" in tracks.column_names and pc.any(tracks["is_cut"]).as_py():
        connection.register("assigned", assigned.rename_columns({"part": "split"}))
        bridges = pl.DataFrame(connection.sql(duck.render(BRIDGES)).to_arrow_table())["track_id"]
        connection.unregister("assigned")
        is_bridge = pl.col("track_id").is_in(bridges.implode())
        part = pl.when(~is_bridge).then("part").alias("part")
        assigned = pl.DataFrame(assigned).with_columns(part).to_arrow()
    n = assigned.num_rows
    return assigned.add_column(0, "folds", pa.repeat(folds, n)).add_column(0, "protocol", pa.repeat(protocol.name, n))


def _make(
    connection: duckdb.DuckDBPyConnection,
    protocol: Protocol,
    values: dict[str, object],
    names: Collection[str] | None = None,
) -> None:
    """Makes a fold's tables in memory. Args: values: also the fold. names: of the tables, by default all."""
    for table in _tables():
        if names is not None and table.name not in names:
            continue
        source = table.select(protocol)
        text = duck.render(source, **template_values(table, source, connection))
        if table.build:
            connection.register("making", table.build(connection, text, protocol))
            connection.execute(f"create or replace table {table.name} as from making")
            connection.unregister("making")
        else:
            connection.execute(f"create or replace table {table.name} as {text}", duck.bound(duck.code(source), values))


def _store(
    name: str,
    made: pa.Table,
    protocol: Protocol,
    version: str,
    upstream: list[str],
    snapshot: Snapshot,
    warehouse: Warehouse,
    started: float,
) -> BuiltTable:
    schema, table = name.split(".")
    path = warehouse.table(schema, table, version)
    with warehouse.replacing(path) as temporary:
        pq.write_table(made, temporary, compression="zstd")
    row = BuiltTable(
        table_name=name,
        protocol=protocol.name,
        version=version,
        snapshot=snapshot.snapshot,
        path=str(path.relative_to(warehouse.root)),
        rows=made.num_rows,
        built_at=datetime.now(UTC),
        build_seconds=time.perf_counter() - started,
        reused=False,
        upstream=tuple(upstream),
    )
    register([row], warehouse)
    return row

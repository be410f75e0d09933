"""The published database, also as of a run: with that run's tracks, even if a later run has published others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb

from tasks.errors import UserError
from tasks.ingest.snapshots import attach, is_stored
from tasks.results import run_queries
from tasks.results.run_queries import Row
from tasks.storage import duck
from tasks.storage.damage import is_whole
from tasks.storage.publication import readable
from tasks.storage.warehouse import Warehouse

NEWEST = 5  # runs listed in the message if one is not found


@contextmanager
def published(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens `music.duckdb` read only. Raises: UserError: as `readable`."""
    with readable(warehouse) as database, duck.connect_to_read(database, warehouse.scratch) as connection:
        warehouse.let_read(connection)
        yield connection


def find_run(connection: duckdb.DuckDBPyConnection, run_id: str | None) -> Row:
    """Returns a run's row of results.runs; by default that of the newest completed run of the current catalogue.

    Raises: UserError: there is no such run; the message lists the newest ones. An earlier version published it.
    """
    runs = run_queries.rows(connection, "select * from results.runs order by started_at desc, run_id desc")
    if runs and "is_current" not in runs[0]:
        raise UserError(run_queries.EARLIER_VERSION)
    for run in runs:
        if run["run_id"] == run_id or (run_id is None and run["is_current"] and run["status"] == "completed"):
            return run
    known = ", ".join(f"{run['run_id']} ({run['status']})" for run in runs[:NEWEST]) or "none"
    missing = "No run is completed" if run_id is None else f"Unknown run '{run_id}'"
    raise UserError(f"{missing}. Newest: {known}. All: select run_id, status, source from results.runs.")


@contextmanager
def as_of(run: Row, warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens the database as of a run, in memory: `results` and `features` as published, `raw` and `staging` of the run.

    `staging.stg_tracks` is missing if the files of the run's tracks are gone, or if the run has no cells.
    """
    with readable(warehouse) as database, duck.connect(spill=warehouse.scratch) as connection:
        warehouse.let_read(connection)
        connection.execute(f"attach {duck.literal(database)} as published (read_only)")
        _mirror(connection, "published")
        _own_tracks(connection, run, warehouse)
        yield connection


def _mirror(connection: duckdb.DuckDBPyConnection, database: str) -> None:
    """Creates a view of the same name on each published table and view, except those of raw and staging."""
    tables = connection.execute(
        """
        select table_schema, table_name from information_schema.tables
        where table_catalog = $database and table_schema in ('results', 'features')
        """,
        {"database": database},
    ).fetchall()
    for schema, table in [*tables, ("raw", "snapshots")]:
        name = f"{schema}.{duck.identifier(table)}"
        with suppress(duckdb.Error):  # one of its files is gone or damaged: the view is left out
            connection.execute(f"create view {name} as select * from {database}.{name}")


def _own_tracks(connection: duckdb.DuckDBPyConnection, run: Row, warehouse: Warehouse) -> None:
    tables = run_queries.rows(
        connection,
        """
        with tracks as (
            select table_name, path, built_at
            from features.registry
            where table_name = 'staging.stg_tracks'
                and version in (select staging_version from results.cells where run_id = $run_id)
            limit 1
        )

        select table_name, path from tracks
        union all
        select 'staging.rare_genres', arg_max(path, built_at)
        from features.registry
        where table_name = 'staging.rare_genres' and snapshot = $snapshot
            and built_at <= (select built_at from tracks)
        having count(*) > 0
        """,
        run_id=run["run_id"],
        snapshot=run["snapshot"],
    )
    files = {row["table_name"]: warehouse.here(row["path"]) for row in tables}
    # Upkeep removes the snapshot's record before its files.
    is_there = "staging.stg_tracks" in files and is_stored(run["snapshot"], warehouse)
    if is_there and all(is_whole(file, warehouse) for file in files.values()):
        attach(connection, run["snapshot"], warehouse)
        for table, file in files.items():
            duck.view(connection, table, file)

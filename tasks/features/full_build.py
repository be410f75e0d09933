"""Builds all feature tables of a snapshot from all its rows. Tables that are stored already are reused."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from tasks.errors import InputError, ProtocolError
from tasks.features import checks
from tasks.features.registry import BuiltTable, read_registry, register
from tasks.features.tables import Chosen, Table, every_table, table_version, write_table
from tasks.ingest.snapshots import Snapshot, attach
from tasks.specs import Protocol
from tasks.storage import duck
from tasks.storage.damage import is_whole
from tasks.storage.warehouse import Warehouse, flush, link

STATISTICS_TABLE = "features.statistics"
# What the protocol's SELECT of fill values gives if it sees the training tracks alone, for the checks that read it.
REFITTED_TABLE = "features.refitted_fill_values"
TRAINING_TRACKS = "select track_id from {}.features.split_assignment where split = 'train'"
TABLES_AT_ONCE = 2  # tables built at a time from a small file, where each SELECT keeps one core busy
ALONE_ROWS = 1_000_000  # with more rows, a SELECT keeps every core busy and needs the memory for itself


def build_all(snapshot: Snapshot, protocol: Protocol, chosen: Chosen, warehouse: Warehouse) -> list[BuiltTable]:
    """Makes the protocol's tables that are not stored yet, checks all tables, and returns them in order.

    Raises: as tasks.features.build.build_features.
    """
    build = Build.planned(snapshot, protocol, chosen, warehouse)
    graph = TopologicalSorter(build.steps())
    graph.prepare()
    built: dict[str, BuiltTable] = {}
    running: dict[Future[BuiltTable | None], str] = {}
    flushing: list[Future[None]] = []
    with (
        warehouse.lock("features"),
        duck.workspace(spill=warehouse.scratch) as connection,
        ThreadPoolExecutor(max_workers=TABLES_AT_ONCE if snapshot.rows_read <= ALONE_ROWS else 1) as pool,
        ThreadPoolExecutor(max_workers=1) as flusher,
    ):
        attach(connection, snapshot.snapshot, warehouse)
        registered = {(row.table_name, row.version): row for row in read_registry(warehouse)}
        try:
            while graph.is_active():
                for name in graph.get_ready():
                    running[pool.submit(build.do, name, registered, duck.cursor(connection))] = name
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(done)
                    if row := done.result():
                        built[name] = row
                        duck.view(connection, name, warehouse.here(row.path))
                        if not row.reused:
                            flushing.append(flusher.submit(flush, warehouse.root / row.path))
                    graph.done(name)
        finally:
            for file in flushing:
                file.result()
            register([row for row in built.values() if not row.reused], warehouse)
    return [built[name] for name in build.tables]


@dataclass(frozen=True, slots=True)
class Build:
    """The steps of one build: the tables, the view of all fitted statistics, refitted fill values, and the checks."""

    protocol: Protocol
    snapshot: Snapshot
    values: dict[str, object]  # the values that the SELECTs bind, by name
    tables: dict[str, Table]
    versions: dict[str, str]
    warehouse: Warehouse

    @classmethod
    def planned(cls, snapshot: Snapshot, protocol: Protocol, chosen: Chosen, warehouse: Warehouse) -> Build:
        """Returns the build of the tables that the protocol needs."""
        values = {"protocol": protocol.name, **chosen}
        wanted = {name for check in checks.of(protocol) for name in duck.upstream(check)}
        every = every_table()
        for table in reversed(every):
            if table.name in wanted or not table.is_on_demand:
                wanted |= {table.name, *table.upstream(protocol)}
        tables = {table.name: table for table in every if table.name in wanted}
        return cls(protocol, snapshot, values, tables, _versions(snapshot, protocol, values, tables), warehouse)

    def steps(self) -> dict[str, list[str]]:
        """Returns each step's name with the names of the steps that it depends on."""
        selects = {name: table.select(self.protocol) for name, table in self.tables.items()}
        due = checks.due(self.protocol, self.versions, self.warehouse)
        selects |= {STATISTICS_TABLE: "features/statistics", **{name: name for name in due}}
        if any(REFITTED_TABLE in duck.upstream(name) for name in due):
            selects[REFITTED_TABLE] = self.protocol.fill
        steps = {name: [at for at in duck.upstream(select) if at in selects] for name, select in selects.items()}
        if REFITTED_TABLE in steps:
            steps[REFITTED_TABLE].append("features.split_assignment")
        return steps

    def do(
        self, name: str, registered: dict[tuple[str, str], BuiltTable], cursor: duckdb.DuckDBPyConnection
    ) -> BuiltTable | None:
        """Does one step. Returns: the table, made or reused; None for what is not stored."""
        if name == STATISTICS_TABLE:
            cursor.execute(f"create view {STATISTICS_TABLE} as {duck.render('features/statistics')}")
            return None
        if name == REFITTED_TABLE:
            refit(cursor, self.protocol, self.values, self.warehouse)
            return None
        if name not in self.tables:
            checks.run(name, self.protocol, self.versions, self.warehouse, cursor)
            return None
        row = registered.get((name, self.versions[name]))
        if row is None or not is_whole(self.warehouse.root / row.path, self.warehouse):
            row = self._make(self.tables[name], cursor)
        if name == "features.track_artists":
            check_artists(row.rows > 0, self.snapshot, self.protocol)
        if name == "features.genre_mapping":
            _check_genres(row.rows, self.snapshot, self.values["min_genre_rows"])
        return row

    def _make(self, table: Table, cursor: duckdb.DuckDBPyConnection) -> BuiltTable:
        schema, name = table.name.split(".")
        version = self.versions[table.name]
        path = self.warehouse.table(schema, name, version)
        started = time.perf_counter()
        with self.warehouse.replacing(path, flushed=False) as temporary:
            if table.name == "staging.stg_tracks" and (whole := self._all_typed(cursor)):
                link(whole, temporary)
                rows = pq.read_metadata(whole).num_rows
            else:
                rows = write_table(table, self.protocol, self.values, cursor, temporary, self.snapshot.rows_read)
        return BuiltTable(
            table_name=table.name,
            protocol=self.protocol.name if table.is_by_protocol else None,
            version=version,
            snapshot=self.snapshot.snapshot,
            path=str(path.relative_to(self.warehouse.root)),
            rows=rows,
            built_at=datetime.now(UTC),
            build_seconds=time.perf_counter() - started,
            reused=False,
            upstream=tuple(self.versions[at] for at in table.upstream(self.protocol) if at in self.versions),
        )

    def _all_typed(self, cursor: duckdb.DuckDBPyConnection) -> Path | None:
        """Returns the file of staging.typed_tracks if staging.stg_tracks would be the same; None if it drops rows."""
        snapshot = self.snapshot
        [(n_rare,)] = cursor.execute("select count(*) from staging.rare_genres").fetchall()
        if n_rare or snapshot.rejected_rows or snapshot.rows_without_genre or snapshot.base:
            return None
        return self.warehouse.here(self.warehouse.table("staging", "typed_tracks", snapshot.snapshot))


def refit(
    cursor: duckdb.DuckDBPyConnection, protocol: Protocol, values: dict[str, object], warehouse: Warehouse
) -> None:
    """Makes REFITTED_TABLE, in a workspace that shows no other tracks than those of training."""
    home = duck.identifier(duck.catalog(cursor))
    select = protocol.fill
    with duck.workspace(spill=warehouse.scratch) as alone:
        for name in duck.upstream(select):
            has_tracks = "track_id" in alone.sql(f"from {home}.{name} limit 0").columns
            where = f"where track_id in ({TRAINING_TRACKS.format(home)})" if has_tracks else ""
            alone.execute(f"create view {name} as select * from {home}.{name} {where}")
        text = duck.render(select, **duck.dynamic_columns(select, alone))
        found = alone.sql(text, params=duck.bound(duck.code(select), values)).to_arrow_table()
    cursor.register("refitted", found)
    cursor.execute(f"create or replace table {REFITTED_TABLE} as from refitted")
    cursor.unregister("refitted")


def _versions(
    snapshot: Snapshot, protocol: Protocol, values: dict[str, object], tables: dict[str, Table]
) -> dict[str, str]:
    versions: dict[str, str] = {}
    for table in tables.values():
        read = [versions.get(name, snapshot.snapshot) for name in table.upstream(protocol)]
        versions[table.name] = table_version(table, protocol, values, read)
    return versions


def check_artists(has_artists: bool, snapshot: Snapshot, protocol: Protocol) -> None:
    """Checks that there are artists if the protocol needs them. Raises: ProtocolError: there are none."""
    if protocol.needs_artists and not has_artists:
        raise ProtocolError(
            f"{protocol.name} is not possible: {snapshot.source} has no artists, and this protocol keeps each artist "
            "on one side of the split. Name their column with --columns artist_name=..., or choose another --protocol."
        )


def _check_genres(n_genres: int, snapshot: Snapshot, min_genre_rows: object) -> None:
    if n_genres < 2 and "music_genre" in snapshot.columns:
        raise InputError(
            f"{snapshot.source}: {n_genres} genre(s) with at least {min_genre_rows} valid rows; 2 are needed. "
            "Give more rows, or lower --min-genre-rows; without column music_genre popularity alone is predicted."
        )

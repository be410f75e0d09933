"""Extends the feature tables of a base snapshot by the rows of a snapshot that was appended with kept statistics.

The tables of fitted statistics (`FITTED`) are those of the base. Every other table is a folder of Parquet files: the
base's files and one file of the new rows. The base's files are hard links, or copies made by the object store. The new
rows are prepared by the same SELECTs as the base's, in a workspace that shows the new rows alone. So base rows do not
change, the val and test rows stay the same, and the cost of a build depends on the number of new rows, except for one
query that finds base tracks linked to new ones. DuckDB, polars and pyarrow read such a folder like a file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.features import checks
from tasks.features import splits as split
from tasks.features.full_build import Build
from tasks.features.registry import BuiltTable, read_registry, register
from tasks.features.splits import split_appended
from tasks.features.tables import TABLES, Chosen, Table, every_table, table_version, write_table
from tasks.ingest.snapshots import Snapshot, load_snapshot
from tasks.specs import PROBES, STUDY_SEED, Protocol
from tasks.storage import duck
from tasks.storage.damage import is_whole
from tasks.storage.warehouse import Warehouse

FITTED = ("features.genre_mapping", "features.fill_values", "features.scaling", "features.pca_loadings")
# Checks of this prefix ran on the base's rows when the base was built. They do not hold for the appended rows.
STATISTICS_CHECKS = "checks/learnt_"


def appended_assignment(connection: duckdb.DuckDBPyConnection, select: str, protocol: Protocol) -> pa.Table:
    """Returns features.split_assignment of the new rows; see tasks.features.splits.split_appended."""
    taken = connection.execute("select split, count(*) from features.base_split group by split").fetchall()
    assigned = split_appended(protocol, connection.sql(select).to_arrow_table(), dict(taken))
    return assigned.add_column(0, "protocol", pa.repeat(protocol.name, assigned.num_rows))


def _split_input(protocol: Protocol) -> str:
    return "features/appended_split_input" if _keeps_apart(protocol) else "features/split_input"


def _keeps_apart(protocol: Protocol) -> bool:
    return protocol.split == "grouped" or protocol.left_out is not None


# The tables that are made differently for appended rows.
APPENDED = {
    "staging.rare_genres": Table(
        name="staging.rare_genres", sql=lambda _: "staging/unmapped_genres", is_by_protocol=False
    ),
    "features.split_assignment": Table(
        name="features.split_assignment",
        sql=_split_input,
        build=appended_assignment,
        code=(appended_assignment, split, STUDY_SEED),
    ),
}
LINKS = {table.name: table for table in TABLES if table.is_on_demand}


def _not_fitted() -> list[Table]:
    """Returns the tables that have rows of the appended tracks, in order, as these are made."""
    return [APPENDED.get(table.name, table) for table in every_table() if table.name not in FITTED]


def extended() -> list[Table]:
    """Returns the tables that are stored with the rows of the appended tracks, in order."""
    return [table for table in _not_fitted() if not table.is_on_demand]


def kept_versions(snapshot: Snapshot, protocol: Protocol, chosen: Chosen, warehouse: Warehouse) -> dict[str, str]:
    """Returns the version of each table: fitted statistics have the base's version, the others one of their own."""
    if snapshot.statistics != "kept":
        return Build.planned(snapshot, protocol, chosen, warehouse).versions
    base = kept_versions(base_of(snapshot, warehouse), protocol, chosen, warehouse)
    versions = {name: base[name] for name in FITTED}
    values = {"protocol": protocol.name, **chosen}
    for table in _not_fitted():
        read = [versions.get(at, snapshot.snapshot) for at in table.upstream(protocol)]
        versions[table.name] = table_version(table, protocol, values, read)
    return versions


@dataclass(frozen=True, slots=True)
class Extension:
    """A build that extends the tables of a base snapshot by the rows that were appended."""

    snapshot: Snapshot
    protocol: Protocol
    values: dict[str, object]  # the values that the SELECTs bind, by name
    versions: dict[str, str]
    warehouse: Warehouse

    @classmethod
    def planned(cls, snapshot: Snapshot, protocol: Protocol, chosen: Chosen, warehouse: Warehouse) -> Extension:
        """Returns the extension of a snapshot's base, with the versions of its tables."""
        versions = kept_versions(snapshot, protocol, chosen, warehouse)
        return cls(snapshot, protocol, {"protocol": protocol.name, **chosen}, versions, warehouse)

    @property
    def names(self) -> list[str]:
        """The names of the tables, in order."""
        return [table.name for table in every_table() if not table.is_on_demand]

    def is_stored(self) -> bool:
        """Whether all tables are stored."""
        return len(self._stored()) == len(self.names)

    def build(self, base: list[BuiltTable]) -> list[BuiltTable]:
        """Makes the tables that are not stored yet, checks all tables, and returns them in order.

        Genres that the base does not have are left out (staging.rare_genres).

        Args: base: the base's tables; empty if all tables of this snapshot are stored.
        """
        with self.warehouse.lock("features"), duck.workspace(spill=self.warehouse.scratch) as connection:
            built = self._make({row.table_name: row for row in base}, connection)
            self._check(built, connection)
        return [built[name] for name in self.names]

    def _stored(self) -> dict[str, BuiltTable]:
        """Returns the tables that are stored, by name."""
        registered = {(row.table_name, row.version): row for row in read_registry(self.warehouse)}
        found = {name: registered.get((name, self.versions[name])) for name in self.names}
        return {
            name: row for name, row in found.items() if row and is_whole(self.warehouse.root / row.path, self.warehouse)
        }

    def _make(self, base: dict[str, BuiltTable], connection: duckdb.DuckDBPyConnection) -> dict[str, BuiltTable]:
        """Makes the missing tables. `connection` then shows the new rows and the base tracks linked to them."""
        for schema, name in (("raw", "rejects"), ("staging", "typed_tracks")):
            own = self.warehouse.table(schema, name, self.snapshot.snapshot)
            duck.view(connection, f"{schema}.{name}", self.warehouse.here(own))
        built = {name: base[name] for name in FITTED if name in base} | self._stored()
        for name in FITTED:
            duck.view(connection, name, self.warehouse.root / built[name].path)
        made: list[BuiltTable] = []
        try:
            for table in extended():
                if table.name == "features.split_assignment":
                    self._show_base(built, base, connection)
                if table.name not in built:
                    made.append(self._extend(table, base[table.name], connection))
                    built[table.name] = made[-1]
                duck.view(connection, table.name, self._parts(built[table.name])[-1])
        finally:
            register(made, self.warehouse)
        return built

    def _check(self, built: dict[str, BuiltTable], connection: duckdb.DuckDBPyConnection) -> None:
        """Runs the due checks on all rows; those of groups run on the new and the linked base tracks alone."""
        due = [
            name
            for name in checks.due(self.protocol, self.versions, self.warehouse)
            if not name.startswith(STATISTICS_CHECKS)
        ]
        about_groups = [name for name in due if not LINKS.keys().isdisjoint(duck.upstream(name))]
        for name, row in built.items():
            duck.view(connection, name, self.warehouse.root / row.path)
        for name in due:
            if name not in about_groups:
                checks.run(name, self.protocol, self.versions, self.warehouse, connection)
        if about_groups:
            own = self._parts(built["staging.stg_tracks"])[-1]
            duck.view(connection, "staging.appended_tracks", own)
            select = duck.render("staging/tracks_to_check")
            connection.execute(f"create or replace view staging.stg_tracks as {select}")
            self._link(connection)
        for name in about_groups:
            checks.run(name, self.protocol, self.versions, self.warehouse, connection)

    def _show_base(
        self, built: dict[str, BuiltTable], base: dict[str, BuiltTable], connection: duckdb.DuckDBPyConnection
    ) -> None:
        """Shows the base's split and, if groups are kept apart, the new tracks' groups and the linked base tracks."""
        name = "features.split_assignment"
        assigned = self._parts(base[name]) if base else self._parts(built[name])[:-1]
        duck.view(connection, "features.base_split", *assigned)
        if _keeps_apart(self.protocol):
            *base_tracks, own = self._parts(built["staging.stg_tracks"])
            duck.view(connection, "staging.base_tracks", *base_tracks)
            connection.execute(f"create view staging.held_out_tracks as {duck.render('staging/held_out_tracks')}")
            connection.execute("create or replace view staging.stg_tracks as from staging.held_out_tracks")
            self._create("features.held_out_artists", "features/track_artists", connection)
            duck.view(connection, "staging.stg_tracks", own)
            self._link(connection)
            self._create("staging.linked_tracks", "staging/linked_tracks", connection)

    def _link(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Makes features.track_groups and its upstream tables from the staging.stg_tracks that `connection` sees."""
        for name, table in LINKS.items():
            select = table.select(self.protocol)
            if table.build:
                connection.register("linking", table.build(connection, duck.render(select), self.protocol))
                connection.execute(f"create or replace table {name} as select * from linking")
            else:
                self._create(name, select, connection)

    def _create(self, name: str, select: str, connection: duckdb.DuckDBPyConnection) -> None:
        """Makes a table in memory. Args: select: the SELECT's path below sql/."""
        bound = duck.bound(duck.code(select), self.values)
        connection.execute(f"create or replace table {name} as {duck.render(select)}", bound)

    def _extend(self, table: Table, base: BuiltTable, connection: duckdb.DuckDBPyConnection) -> BuiltTable:
        """Makes a table's folder of the base's files and one file of the new rows."""
        version = self.versions[table.name]
        schema, name = table.name.split(".")
        final = self.warehouse.table(schema, name, version)
        started = time.perf_counter()
        self.warehouse.discard_here(final)  # left by a killed build
        before = self._parts(base)
        shared = {f"{number:06}.parquet": file for number, file in enumerate(before)}
        with self.warehouse.new_folder(final, shared) as folder:
            own = folder / f"{len(before):06}.parquet"
            rows = write_table(table, self.protocol, self.values, connection, own, self.snapshot.rows_read)
        return replace(
            base,
            version=version,
            snapshot=self.snapshot.snapshot,
            path=str(final.relative_to(self.warehouse.root)),
            rows=base.rows + rows,
            built_at=datetime.now(UTC),
            build_seconds=time.perf_counter() - started,
            reused=False,
            upstream=tuple(self.versions[at] for at in table.upstream(self.protocol) if at in self.versions),
        )

    def _parts(self, row: BuiltTable) -> list[Path]:
        return self.warehouse.parts(row.path)


def left_out(tables: list[BuiltTable], warehouse: Warehouse) -> list[str]:
    """Returns a line for each protocol that leaves tracks out of training; for probes, only of appended tracks."""
    lines = []
    for row in tables:
        if row.table_name == "features.split_assignment":
            *base, own = warehouse.parts(row.path)
            if not base and row.protocol in PROBES:
                continue
            splits = pq.read_table(own, columns=["split"])["split"]
            if unused := pc.sum(pc.equal(splits, "unused")).as_py():
                of = f"{row.protocol}: {unused:,} of {len(splits):,}"
                reason = (
                    "appended tracks are linked to validation or test tracks and are left out of training (split "
                    "unused)"
                    if base
                    else "tracks have artists of several sides of the split and are left out (split unused), because "
                    "chains of shared artists link nearly all tracks"
                )
                lines.append(f"{of} {reason}")
    return lines


def base_of(snapshot: Snapshot, warehouse: Warehouse) -> Snapshot:
    """Loads the snapshot to which another one was appended."""
    return load_snapshot(str(snapshot.base), warehouse)

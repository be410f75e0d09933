"""The feature store: versioned Parquet tables, each made by one SELECT from the tables it names."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import InputError, ProtocolError, UserError, one_line
from tasks.features import checks, splits
from tasks.features.artists import normal_separators
from tasks.features.registry import BuiltTable, read_registry, register
from tasks.features.splits import linked_artists, split_tracks, without
from tasks.ingest.snapshots import Snapshot, attach
from tasks.specs import AUDIO_FEATURES, STUDY_SEED, Protocol, protocol_named
from tasks.storage import duck
from tasks.storage.damage import is_whole
from tasks.storage.warehouse import Warehouse, flush, link

PCA_VARIANCE = 0.95
PCA_DECIMALS = 9
STATISTICS = "features.statistics"
BRIDGES = "features/bridging_tracks"
Chosen = Mapping[str, Any]  # what a user chose, by the names that the SELECTs bind
AT_ONCE = 2  # tables built at a time of a small file: each SELECT keeps one core busy
ALONE_ROWS = 1_000_000  # of a larger one each SELECT keeps every core busy, and needs the memory for itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A feature table: a SELECT, or a function where SQL cannot say it."""

    name: str  # schema.table
    sql: Callable[[Protocol], str] | None = None  # the SELECT below sql/; by default as the name says
    build: Callable[[duckdb.DuckDBPyConnection, str, Protocol], pa.Table] | None = None  # given the SELECT's text
    code: tuple[Any, ...] = ()  # the Python that decides its content
    is_by_protocol: bool = True
    is_on_demand: bool = False  # only made where a split or a check asks for it

    def select(self, protocol: Protocol) -> str:
        """The path of the SELECT below sql/."""
        return self.sql(protocol) if self.sql else self.name.replace(".", "/")

    def upstream(self, protocol: Protocol) -> list[str]:
        """The tables it is made from."""
        return duck.upstream(self.select(protocol))


def artist_groups(connection: duckdb.DuckDBPyConnection, select: str, protocol: Protocol) -> pa.Table:
    """features.artist_groups: the artists that a chain of shared recordings links; see tasks.split.linked_artists."""
    pairs = connection.sql(select).to_arrow_table()
    artists, groups = linked_artists(pairs["recording_id"].to_numpy(), pairs["artist_id"].to_numpy())
    return pa.table({"artist_id": artists, "artist_group": groups})


def split_assignment(connection: duckdb.DuckDBPyConnection, select: str, protocol: Protocol) -> pa.Table:
    """features.split_assignment: protocol, and the columns of tasks.split.split_tracks."""
    tracks = connection.sql(select).to_arrow_table()
    assigned = split_tracks(protocol, tracks)
    if "is_cut" in tracks.column_names and pc.any(tracks["is_cut"]).as_py():
        connection.register("assigned", assigned)
        bridges = connection.sql(duck.render(BRIDGES)).to_arrow_table()
        assigned = without(assigned, bridges["track_id"])
        connection.unregister("assigned")
    return assigned.add_column(0, "protocol", pa.repeat(protocol.name, assigned.num_rows))


def pca_loadings(connection: duckdb.DuckDBPyConnection, select: str, protocol: Protocol) -> pa.Table:
    """features.pca_loadings: the components that hold 95 % of the variance of the training rows' z-scores.

    Statistic `pcK` is a feature's loading on component K; `explained_variance_ratio` has the component as feature_name.
    Source: eigenvectors of the covariance matrix; signs as sklearn.decomposition.PCA (largest loading positive).
    """
    products = np.zeros((len(AUDIO_FEATURES), len(AUDIO_FEATURES)))
    n_rows = 0
    for batch in connection.sql(select).to_arrow_reader(65_536):
        z_scores = np.column_stack([column.to_numpy() for column in batch.columns])
        products += z_scores.T @ z_scores
        n_rows += len(z_scores)
    # Rounded: sums of floating-point numbers depend on the order of the rows, in which threads leave them.
    variance, vectors = np.linalg.eigh(np.round(products / (n_rows - 1), PCA_DECIMALS))
    order = np.argsort(variance)[::-1]
    share = variance[order].clip(min=0.0) / variance.sum()
    kept = int(np.searchsorted(np.cumsum(share), PCA_VARIANCE, side="right")) + 1
    rows = []
    for number, at in enumerate(order[:kept]):
        loadings = vectors[:, at] * np.sign(vectors[np.abs(vectors[:, at]).argmax(), at])
        component = f"pc{number + 1}"
        rows += [(name, component, value) for name, value in zip(AUDIO_FEATURES, loadings, strict=True)]
        rows.append((component, "explained_variance_ratio", share[number]))
    names, statistics, values = zip(*rows, strict=True)
    return pa.table(
        {
            "protocol": [protocol.name] * len(rows),
            "feature_name": names,
            "statistic": statistics,
            "genre": pa.nulls(len(rows), pa.string()),
            "value": pa.array(values, pa.float64()),
        }
    )


def _split_input(protocol: Protocol) -> str:
    if protocol.split == "grouped":
        return "features/grouped_split_input"
    return f"features/{protocol.left_out}_split_input" if protocol.left_out else "features/split_input"


TABLES = (
    Table(name="staging.rare_genres", is_by_protocol=False),
    Table(name="staging.stg_tracks", is_by_protocol=False),
    Table(name="features.genre_mapping", is_by_protocol=False),
    Table(name="features.track_artists", is_by_protocol=False, is_on_demand=True),
    Table(name="features.track_links", is_by_protocol=False, is_on_demand=True),
    Table(
        name="features.artist_groups",
        sql=lambda _: "features/shared_recordings",
        build=artist_groups,
        code=(artist_groups, linked_artists),
        is_by_protocol=False,
        is_on_demand=True,
    ),
    Table(name="features.track_groups", is_by_protocol=False, is_on_demand=True),
    Table(
        name="features.split_assignment",
        sql=_split_input,
        build=split_assignment,
        code=(split_assignment, splits, STUDY_SEED, duck.code(BRIDGES)),
    ),
    Table(name="features.fill_values", sql=lambda protocol: protocol.fill),
    Table(name="features.tracks_clean"),
    Table(name="features.tracks_one_hot"),
    Table(name="features.scaling"),
    Table(name="features.tracks_std"),
    Table(
        name="features.pca_loadings",
        sql=lambda _: "features/z_scores",
        build=pca_loadings,
        code=(pca_loadings, PCA_VARIANCE, PCA_DECIMALS),
    ),
    Table(name="features.tracks_pca"),
    Table(name="features.tracks_multitask"),
)


def build_features(
    snapshot: Snapshot,
    protocol: str,
    min_genre_rows: int,
    warehouse: Warehouse,
    artist_separators: Sequence[str] = (),
) -> list[BuiltTable]:
    """Make every table of `protocol` that is not there yet, two at a time, check them, and return all of them in order.

    A table's version is a digest of the snapshot, its SQL and code, its parameters and its upstream's versions. Of a
    snapshot that was appended with kept statistics only the new rows are prepared (tasks/features/append.py).
    Args: artist_separators: what separates artists, beside what always does.
    Raises: ProtocolError: it needs artists, and there are none.
        InputError: nothing is left to learn from (fewer than two genres, too few rows to split).
        CheckError: a table breaks one of the protocol's rules (sql/checks/).
    """
    if min_genre_rows < 1:
        raise UserError("--min-genre-rows must be at least 1.")
    _check_artists("artist_name" in snapshot.columns, snapshot, protocol)
    chosen = {"min_genre_rows": min_genre_rows, "artist_separators": normal_separators(artist_separators)}
    if snapshot.statistics == "kept":
        from tasks.features.append import extend_features

        return extend_features(snapshot, protocol_named(protocol), chosen, warehouse)
    build = Build.planned(snapshot, protocol_named(protocol), chosen, warehouse)
    graph = TopologicalSorter(build.steps())
    graph.prepare()
    built: dict[str, BuiltTable] = {}
    running: dict[Future[BuiltTable | None], str] = {}
    flushing: list[Future[None]] = []
    with (
        warehouse.lock("features"),
        duck.workspace(spill=warehouse.scratch) as connection,
        ThreadPoolExecutor(max_workers=AT_ONCE if snapshot.rows_read <= ALONE_ROWS else 1) as pool,
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
    """What one build makes: tables, the view of all that was learnt, and checks."""

    protocol: Protocol
    snapshot: Snapshot
    values: dict[str, object]  # what the SELECTs bind
    tables: dict[str, Table]
    versions: dict[str, str]
    warehouse: Warehouse

    @classmethod
    def planned(cls, snapshot: Snapshot, protocol: Protocol, chosen: Chosen, warehouse: Warehouse) -> Build:
        """With the tables that the protocol needs."""
        values = {"protocol": protocol.name, **chosen}
        wanted = {name for check in checks.of(protocol) for name in duck.upstream(check)}
        for table in reversed(TABLES):
            if table.name in wanted or not table.is_on_demand:
                wanted |= {table.name, *table.upstream(protocol)}
        tables = {table.name: table for table in TABLES if table.name in wanted}
        return cls(protocol, snapshot, values, tables, _versions(snapshot, protocol, values, tables), warehouse)

    def steps(self) -> dict[str, list[str]]:
        """Each step's name, and the names of those that come before it."""
        selects = {name: table.select(self.protocol) for name, table in self.tables.items()}
        selects[STATISTICS] = "features/statistics"
        selects |= {name: name for name in checks.due(self.protocol, self.versions, self.warehouse)}
        return {name: [at for at in duck.upstream(select) if at in selects] for name, select in selects.items()}

    def do(
        self, name: str, registered: dict[tuple[str, str], BuiltTable], cursor: duckdb.DuckDBPyConnection
    ) -> BuiltTable | None:
        """One step. Returns: the table that was made, or was there."""
        if name == STATISTICS:
            cursor.execute(f"create view {STATISTICS} as {duck.render('features/statistics')}")
            return None
        if name not in self.tables:
            checks.run(name, self.protocol, self.versions, self.warehouse, cursor)
            return None
        row = registered.get((name, self.versions[name]))
        if row is None or not is_whole(self.warehouse.root / row.path, self.warehouse):
            row = self._make(self.tables[name], cursor)
        if name == "features.track_artists":
            _check_artists(row.rows > 0, self.snapshot, self.protocol.name)
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
        """The file of staging.typed_tracks if staging.stg_tracks drops none of its rows, and so is that file."""
        snapshot = self.snapshot
        [(n_rare,)] = cursor.execute("select count(*) from staging.rare_genres").fetchall()
        if n_rare or snapshot.rejected_rows or snapshot.rows_without_genre or snapshot.base:
            return None
        return self.warehouse.here(self.warehouse.table("staging", "typed_tracks", snapshot.snapshot))


def write_table(
    table: Table,
    protocol: Protocol,
    values: dict[str, object],
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    about_rows: int,
) -> int:
    """Write a table, made of those that `connection` sees, as a Parquet file. Returns: its rows."""
    source = table.select(protocol)
    select = duck.render(source, **duck.dynamic_columns(source, connection))
    if table.build is not None:
        made = table.build(connection, select, protocol)
        texts = [field.name for field in made.schema if pa.types.is_string(field.type)]
        pq.write_table(made, path, compression="snappy", use_dictionary=texts)
        return int(made.num_rows)
    bound = duck.bound(duck.code(source), values)
    return int(connection.execute(duck.copy(select, path, about_rows, is_ordered=False), bound).fetchall()[0][0])


def _versions(
    snapshot: Snapshot, protocol: Protocol, values: dict[str, object], tables: dict[str, Table]
) -> dict[str, str]:
    versions: dict[str, str] = {}
    for table in tables.values():
        read = [versions.get(name, snapshot.snapshot) for name in table.upstream(protocol)]
        versions[table.name] = table_version(table, protocol, values, read)
    return versions


def table_version(table: Table, protocol: Protocol, values: dict[str, object], read: list[str]) -> str:
    """What a table is called that is made by today's SQL and code. Args: read: its upstream's versions."""
    select = duck.code(table.select(protocol))
    parameters = duck.bound(select, values) | ({"protocol": protocol.name} if table.is_by_protocol else {})
    rules: tuple[object, ...] = (AUDIO_FEATURES, duckdb.__version__)
    if table.build:
        code = [part if isinstance(part, int | float | str) else inspect.getsource(part) for part in table.code]
        rules += (*code, np.__version__, metadata.version("scipy"), metadata.version("scikit-learn"))
    return duck.digest(table.name, select, rules, sorted(parameters.items()), read)


def _check_artists(has_artists: bool, snapshot: Snapshot, protocol: str) -> None:
    if protocol_named(protocol).needs_artists and not has_artists:
        raise ProtocolError(
            f"{protocol} is not possible: {snapshot.source} has no artists, whom it keeps on one side of the split. "
            "Name their column with --columns artist_name=..., or choose another --protocol."
        )


def _check_genres(n_genres: int, snapshot: Snapshot, min_genre_rows: object) -> None:
    if n_genres < 2 and "music_genre" in snapshot.columns:
        raise InputError(
            f"{snapshot.source}: {n_genres} genre(s) with at least {min_genre_rows} valid rows; 2 are needed. "
            "Give more rows, or lower --min-genre-rows; without column music_genre popularity alone is predicted."
        )


def rare_genres(tables: list[BuiltTable], warehouse: Warehouse) -> str | None:
    """What was dropped for being too rare to split, for people; None if nothing was."""
    path = next(table.path for table in tables if table.table_name == "staging.rare_genres")
    is_folder = warehouse.here(path).is_dir()
    found = pq.read_table(warehouse.here(path)).to_pylist()
    if not found:
        return None
    rows = sum(genre["dropped_rows"] for genre in found)
    dropped = sorted({genre["music_genre"] for genre in found})
    names = ", ".join(f"'{one_line(name[:40])}'" for name in dropped[:5]) + (", ..." if len(dropped) > 5 else "")
    reason = "too rare to split, or not known to the statistics that are kept," if is_folder else "too rare to split"
    return f"{rows:,} rows of {len(dropped)} genre(s) {reason} dropped (see staging.rare_genres): {names}"


def genres_of(mapping: BuiltTable, warehouse: Warehouse) -> tuple[str, ...]:
    """The genres by their code. Args: mapping: features.genre_mapping."""
    table = pq.read_table(warehouse.here(mapping.path), columns=["genre_id", "music_genre"])
    return tuple(table.sort_by("genre_id")["music_genre"].to_pylist())

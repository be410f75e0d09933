"""The feature store: versioned Parquet tables, each made by one SELECT from the tables it names."""

from __future__ import annotations

import inspect
import re
import time
import uuid
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from importlib import metadata

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import duck, ingest
from tasks.errors import InputError, UserError
from tasks.specs import AUDIO_FEATURES, STUDY_SEED
from tasks.split import study_split
from tasks.warehouse import Warehouse, flush

PCA_VARIANCE = 0.95
AT_ONCE = 2  # tables built at a time: each SELECT of a small file keeps one core busy
REGISTRY = pa.schema(
    [
        pa.field("table_name", pa.string(), nullable=False),
        pa.field("protocol", pa.string()),
        pa.field("version", pa.string(), nullable=False),
        pa.field("snapshot", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),  # below the warehouse's root
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("built_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("build_seconds", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A feature table: a SELECT, or a function where SQL cannot say it."""

    name: str  # schema.table
    select: str = ""  # below sql/, `{protocol}` replaced; by default as the name says
    build: Callable[[duckdb.DuckDBPyConnection, str], pa.Table] | None = None
    selects: tuple[str, ...] = ()  # below sql/, that the function runs

    def sql(self, protocol: str) -> str:
        """The path of the SELECT below sql/."""
        return (self.select or self.name.replace(".", "/")).format(protocol=protocol)

    def upstream(self, protocol: str) -> list[str]:
        """The tables it is made from."""
        selects = self.selects if self.build else [self.sql(protocol)]
        return sorted({name for select in selects for name in duck.upstream(select)})

    def code(self, protocol: str) -> str:
        """What, besides its upstream, decides its content."""
        if self.build is None:
            return duck.source(self.sql(protocol))
        return "".join(duck.source(name) for name in self.selects) + "".join(
            inspect.getsource(function) for function in (self.build, study_split)
        )


@dataclass(frozen=True, slots=True)
class BuiltTable:
    """One row of features.registry, and whether this build made it."""

    table_name: str
    protocol: str | None
    version: str
    snapshot: str
    path: str
    rows: int
    built_at: datetime
    build_seconds: float
    reused: bool


def split_assignment(connection: duckdb.DuckDBPyConnection, protocol: str) -> pa.Table:
    """features.split_assignment: protocol, track_id, split, position (of the row in its split)."""
    rows = connection.sql(duck.render("features/split_input")).to_arrow_table()
    split = study_split(rows["track_id"].to_numpy(), rows["genre_id"].to_numpy())
    return split.add_column(0, "protocol", pa.repeat(protocol, split.num_rows))


def pca_loadings(connection: duckdb.DuckDBPyConnection, protocol: str) -> pa.Table:
    """features.pca_loadings: the components that hold 95 % of the variance of the training rows' z-scores.

    Statistic `pcK` is a feature's loading on component K; `explained_variance_ratio` has the component as feature_name.
    Source: eigenvectors of the covariance matrix; signs as sklearn.decomposition.PCA (largest loading positive).
    """
    products = np.zeros((len(AUDIO_FEATURES), len(AUDIO_FEATURES)))
    n_rows = 0
    for batch in connection.sql(duck.render("features/z_scores")).to_arrow_reader(65_536):
        z_scores = np.column_stack([column.to_numpy() for column in batch.columns])
        products += z_scores.T @ z_scores
        n_rows += len(z_scores)
    variance, vectors = np.linalg.eigh(products / (n_rows - 1))
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
            "protocol": [protocol] * len(rows),
            "feature_name": names,
            "statistic": statistics,
            "genre": pa.nulls(len(rows), pa.string()),
            "value": pa.array(values, pa.float64()),
        }
    )


TABLES = (
    Table(name="staging.rare_genres"),
    Table(name="staging.stg_tracks"),
    Table(name="features.genre_mapping"),
    Table(name="features.split_assignment", build=split_assignment, selects=("features/split_input",)),
    Table(name="features.fill_values", select="protocols/{protocol}/fill_values"),
    Table(name="features.tracks_clean"),
    Table(name="features.tracks_one_hot"),
    Table(name="features.scaling"),
    Table(name="features.tracks_std"),
    Table(name="features.pca_loadings", build=pca_loadings, selects=("features/z_scores",)),
    Table(name="features.tracks_pca"),
    Table(name="features.tracks_multitask"),
)


def build_features(
    snapshot: ingest.Snapshot, protocol: str, min_genre_rows: int, warehouse: Warehouse
) -> list[BuiltTable]:
    """Make every table of `protocol` that is not there yet, two at a time, and return all of them in order.

    A table's version is a digest of the snapshot, its SQL or code, its parameters and its upstream's versions.
    Raises: InputError: nothing is left to learn from (fewer than two genres, too few rows to split).
    """
    if min_genre_rows < 1:
        raise UserError("--min-genre-rows must be at least 1.")
    values: dict[str, object] = {"protocol": protocol, "min_genre_rows": min_genre_rows}
    upstream = {table.name: table.upstream(protocol) for table in TABLES}
    versions = _versions(snapshot, protocol, values, upstream)
    tables = {table.name: table for table in TABLES}
    built: dict[str, BuiltTable] = {}
    graph = TopologicalSorter({name: [at for at in reads if at in tables] for name, reads in upstream.items()})
    graph.prepare()
    with (
        warehouse.lock("features"),
        duck.workspace(spill=warehouse.root / "tmp") as connection,
        ThreadPoolExecutor(max_workers=AT_ONCE) as pool,
        ThreadPoolExecutor(max_workers=1) as flusher,
    ):
        ingest.attach(connection, snapshot.snapshot, warehouse)
        registered = {(row.table_name, row.version): row for row in read_registry(warehouse)}
        building: dict[Future[BuiltTable], str] = {}

        flushing: list[Future[None]] = []

        def keep_or_build(name: str, cursor: duckdb.DuckDBPyConnection) -> BuiltTable:
            row = registered.get((name, versions[name]))
            if row is not None and (warehouse.root / row.path).exists():
                return row
            return _build(tables[name], versions[name], protocol, values, snapshot, cursor, warehouse)

        try:
            while graph.is_active():
                for name in graph.get_ready():
                    building[pool.submit(keep_or_build, name, duck.cursor(connection))] = name
                for done in wait(building, return_when=FIRST_COMPLETED).done:
                    name = building.pop(done)
                    built[name] = done.result()
                    duck.view(connection, name, warehouse.root / built[name].path)
                    if name == "features.genre_mapping":
                        _check_genres(built[name].rows, snapshot, min_genre_rows)
                    if not built[name].reused:
                        flushing.append(flusher.submit(flush, warehouse.root / built[name].path))
                    graph.done(name)
        finally:
            for file in flushing:
                file.result()
            _register([row for row in built.values() if not row.reused], warehouse)
    return [built[table.name] for table in TABLES]


def _versions(
    snapshot: ingest.Snapshot, protocol: str, values: dict[str, object], upstream: dict[str, list[str]]
) -> dict[str, str]:
    versions: dict[str, str] = {}
    for table in TABLES:
        code = table.code(protocol)
        parameters = duck.bound(code, values) | ({"protocol": protocol} if table.build else {})
        read = [versions.get(name, snapshot.snapshot) for name in upstream[table.name]]
        rules: tuple[object, ...] = (AUDIO_FEATURES, duckdb.__version__)
        if table.build:
            rules += (PCA_VARIANCE, STUDY_SEED, np.__version__, metadata.version("scikit-learn"))
        versions[table.name] = duck.digest(table.name, code, rules, sorted(parameters.items()), read)
    return versions


def _check_genres(n_genres: int, snapshot: ingest.Snapshot, min_genre_rows: int) -> None:
    if n_genres < 2:
        raise InputError(
            f"{snapshot.source}: {n_genres} genre(s) with at least {min_genre_rows} valid rows; 2 are needed. "
            "Give more rows, or lower --min-genre-rows."
        )


def rare_genres(tables: list[BuiltTable], warehouse: Warehouse) -> str | None:
    """What was dropped for being too rare to split, for people; None if nothing was."""
    path = next(table.path for table in tables if table.table_name == "staging.rare_genres")
    dropped = pq.read_table(warehouse.root / path).to_pylist()
    if not dropped:
        return None
    rows = sum(genre["dropped_rows"] for genre in dropped)
    names = ", ".join(genre["music_genre"][:40] for genre in dropped[:5]) + (", ..." if len(dropped) > 5 else "")
    return f"{rows:,} rows of {len(dropped)} genre(s) too rare to split dropped (see staging.rare_genres): {names}"


def read_registry(warehouse: Warehouse) -> list[BuiltTable]:
    """Every table ever built, oldest first."""
    files = warehouse.files("features", "registry")
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return [BuiltTable(**row, reused=True) for row in sorted(rows, key=lambda row: row["built_at"])]


def _build(
    table: Table,
    version: str,
    protocol: str,
    values: dict[str, object],
    snapshot: ingest.Snapshot,
    cursor: duckdb.DuckDBPyConnection,
    warehouse: Warehouse,
) -> BuiltTable:
    schema, name = table.name.split(".")
    path = warehouse.table(schema, name, version)
    started = time.perf_counter()
    with warehouse.replacing(path, flushed=False) as temporary:
        if table.build is not None:
            made = table.build(cursor, protocol)
            texts = [field.name for field in made.schema if pa.types.is_string(field.type)]
            pq.write_table(made, temporary, compression="snappy", use_dictionary=texts)
            rows = made.num_rows
        else:
            select = duck.render(table.sql(protocol), **_dynamic_columns(table.sql(protocol), cursor))
            rows = cursor.execute(duck.copy(select, temporary), duck.bound(table.code(protocol), values)).fetchall()[0][
                0
            ]
    return BuiltTable(
        table_name=table.name,
        protocol=None if table.name == "features.genre_mapping" or schema == "staging" else protocol,
        version=version,
        snapshot=snapshot.snapshot,
        path=str(path.relative_to(warehouse.root)),
        rows=rows,
        built_at=datetime.now(UTC),
        build_seconds=time.perf_counter() - started,
        reused=False,
    )


def _register(rows: list[BuiltTable], warehouse: Warehouse) -> None:
    """Record tables that were built: until then they do not count as there."""
    if rows:
        entries = [{name: getattr(row, name) for name in REGISTRY.names} for row in rows]
        warehouse.write_rows(warehouse.table("features", "registry", uuid.uuid4().hex), entries, REGISTRY)


def _dynamic_columns(select: str, connection: duckdb.DuckDBPyConnection) -> dict[str, object]:
    """The column lists that depend on the data, for the SELECTs that have one."""
    code = duck.source(select)
    columns: dict[str, object] = {}
    if re.search(r"\bin genres\b", code):
        mapping = connection.execute("select genre_id, column_name from features.genre_mapping").fetchall()
        columns["genres"] = [(genre_id, duck.identifier(name)) for genre_id, name in mapping]
    if re.search(r"\bin components\b", code):
        found = connection.execute("select distinct statistic from features.pca_loadings").fetchall()
        names = [name for (name,) in found if name.startswith("pc")]
        columns["components"] = sorted(names, key=lambda name: int(name[2:]))
    return columns

"""The feature store: versioned Parquet tables, each made by one SELECT from the tables it names."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import duck, ingest
from tasks.errors import InputError
from tasks.specs import AUDIO_FEATURES
from tasks.split import study_split
from tasks.warehouse import Warehouse

PCA_VARIANCE = 0.95
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
    reads: tuple[str, ...] = ()  # of a function; a SELECT names its tables itself

    def sql(self, protocol: str) -> str:
        """The path of the SELECT below sql/."""
        return (self.select or self.name.replace(".", "/")).format(protocol=protocol)

    def upstream(self, protocol: str) -> list[str]:
        """The tables it is made from."""
        return list(self.reads) if self.build else duck.upstream(self.sql(protocol))

    def code(self, protocol: str) -> str:
        """What, besides its upstream, decides its content."""
        if self.build is None:
            return duck.source(self.sql(protocol))
        return inspect.getsource(self.build) + inspect.getsource(study_split)


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
    rows = connection.sql("select track_id, music_genre from staging.stg_tracks order by row_number").to_arrow_table()
    split = study_split(rows["track_id"].to_numpy(), rows["music_genre"].to_numpy())
    return split.add_column(0, "protocol", pa.array([protocol] * split.num_rows))


def pca_loadings(connection: duckdb.DuckDBPyConnection, protocol: str) -> pa.Table:
    """features.pca_loadings: the components that hold 95 % of the variance of the training rows' z-scores.

    Statistic `pcK` is a feature's loading on component K; `explained_variance_ratio` has the component as feature_name.
    Source: eigenvectors of the covariance matrix; signs as sklearn.decomposition.PCA (largest loading positive).
    """
    pairs = connection.sql(duck.render("features/covariances")).fetchall()
    size = len(AUDIO_FEATURES)
    covariance = np.zeros((size, size))
    for first, second, value in pairs:
        i, j = AUDIO_FEATURES.index(first), AUDIO_FEATURES.index(second)
        covariance[i, j] = covariance[j, i] = value
    variance, vectors = np.linalg.eigh(covariance)
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
    Table(name="staging.stg_tracks"),
    Table(name="features.genre_mapping"),
    Table(name="features.split_assignment", build=split_assignment, reads=("staging.stg_tracks",)),
    Table(name="features.fill_values", select="protocols/{protocol}/fill_values"),
    Table(name="features.tracks_clean"),
    Table(name="features.tracks_one_hot"),
    Table(name="features.scaling"),
    Table(name="features.tracks_std"),
    Table(name="features.pca_loadings", build=pca_loadings, reads=("features.tracks_std",)),
    Table(name="features.tracks_pca"),
    Table(name="features.tracks_multitask"),
)


def build_features(
    snapshot: ingest.Snapshot, protocol: str, min_genre_rows: int, warehouse: Warehouse
) -> list[BuiltTable]:
    """Make every table of `protocol` that is not there yet, and return all of them in order.

    A table's version is a digest of the snapshot, its SQL or code, its parameters and its upstream's versions.
    Raises: InputError: nothing is left to learn from (fewer than two genres, too few rows to split).
    """
    values: dict[str, object] = {"protocol": protocol, "min_genre_rows": min_genre_rows}
    with warehouse.lock("features"), duck.connect(spill=warehouse.root / "tmp") as connection:
        ingest.attach(connection, snapshot.snapshot, warehouse)
        registered = {(row.table_name, row.version): row for row in read_registry(warehouse)}
        versions: dict[str, str] = {}
        built: list[BuiltTable] = []
        for table in TABLES:
            code = table.code(protocol)
            parameters = sorted(duck.bound(code, values).items())
            if table.build is not None or table.name == "features.tracks_one_hot":
                parameters.append(("protocol", protocol))
            upstream = [versions.get(name, snapshot.snapshot) for name in table.upstream(protocol)]
            version = versions[table.name] = duck.digest(table.name, code, parameters, upstream)
            schema, name = table.name.split(".")
            row = registered.get((table.name, version))
            path = warehouse.table(schema, name, version)
            if row is None or not path.exists():
                row = _build(table, protocol, values, version, snapshot.snapshot, path, connection, warehouse)
            duck.view(connection, table.name, path)
            built.append(row)
            if table.name == "features.genre_mapping" and row.rows < 2:
                raise InputError(
                    f"{snapshot.source}: {row.rows} genre(s) with at least {min_genre_rows} valid rows; 2 are needed. "
                    "Give more rows, or lower --min-genre-rows."
                )
    return built


def read_registry(warehouse: Warehouse) -> list[BuiltTable]:
    """Every table ever built, oldest first."""
    files = warehouse.files("features", "registry")
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return [BuiltTable(**row, reused=True) for row in sorted(rows, key=lambda row: row["built_at"])]


def _build(
    table: Table,
    protocol: str,
    values: dict[str, object],
    version: str,
    snapshot: str,
    path: Path,
    connection: duckdb.DuckDBPyConnection,
    warehouse: Warehouse,
) -> BuiltTable:
    started = time.perf_counter()
    with warehouse.replacing(path) as temporary:
        if table.build is not None:
            pq.write_table(table.build(connection, protocol), temporary, compression="zstd")
            rows = pq.read_metadata(temporary).num_rows
        else:
            select = duck.render(table.sql(protocol), **_dynamic_columns(table.sql(protocol), connection))
            copy = f"copy ({select}) to {duck.literal(temporary)} (format parquet, compression zstd)"
            rows = connection.execute(copy, duck.bound(select, values)).fetchall()[0][0]
    row: dict[str, object] = {
        "table_name": table.name,
        "protocol": protocol if table.name not in {"staging.stg_tracks", "features.genre_mapping"} else None,
        "version": version,
        "snapshot": snapshot,
        "path": str(path.relative_to(warehouse.root)),
        "rows": rows,
        "built_at": datetime.now(UTC),
        "build_seconds": time.perf_counter() - started,
    }
    warehouse.write_rows(warehouse.table("features", "registry", f"{table.name}-{version}"), [row], REGISTRY)
    return BuiltTable(**row, reused=False)  # type: ignore[arg-type]


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

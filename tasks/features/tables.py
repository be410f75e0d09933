"""The feature tables. Each is one SELECT, or a function that takes its rows where SQL does not suffice."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import CheckError, one_line
from tasks.features import splits
from tasks.features.registry import BuiltTable
from tasks.features.splits import linked_artists, split_tracks, without
from tasks.specs import AUDIO_FEATURES, FEATURE_SETS, STUDY_SEED, FeatureSet, Protocol
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

PCA_VARIANCE = 0.95
PCA_DECIMALS = 9
BRIDGES = "features/bridging_tracks"
FEATURE_SET = "features/feature_set"
FINITE = "checks/finite_columns"
Chosen = Mapping[str, Any]  # the user's options, by the names that the SELECTs bind


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A feature table: a SELECT, or a function that takes the SELECT's rows."""

    name: str  # schema.table
    # The SQL expression of each column, by its quoted name: of a feature set with a table of its own.
    expressions: Mapping[str, str] = field(default_factory=dict)
    sql: Callable[[Protocol], str] | None = None  # the SELECT's path below sql/; by default schema/table
    build: Callable[[duckdb.DuckDBPyConnection, str, Protocol], pa.Table] | None = None  # takes the SELECT's text
    code: tuple[Any, ...] = ()  # the Python code and constants that decide the table's content
    is_by_protocol: bool = True
    is_on_demand: bool = False  # made only if a split or a check needs it

    def select(self, protocol: Protocol) -> str:
        """Returns the path of the SELECT below sql/."""
        return self.sql(protocol) if self.sql else self.name.replace(".", "/")

    def upstream(self, protocol: Protocol) -> list[str]:
        """Returns the names of the tables that the SELECT reads."""
        return duck.upstream(self.select(protocol))


def artist_groups(connection: duckdb.DuckDBPyConnection, select: str, protocol: Protocol) -> pa.Table:
    """Returns features.artist_groups: artists linked by a chain of shared recordings; see splits.linked_artists."""
    pairs = connection.sql(select).to_arrow_table()
    artists, groups = linked_artists(pairs["recording_id"].to_numpy(), pairs["artist_id"].to_numpy())
    return pa.table({"artist_id": artists, "artist_group": groups})


def split_assignment(connection: duckdb.DuckDBPyConnection, select: str, protocol: Protocol) -> pa.Table:
    """Returns features.split_assignment: protocol, and the columns of tasks.features.splits.split_tracks."""
    tracks = connection.sql(select).to_arrow_table()
    assigned = split_tracks(protocol, tracks)
    if "is_cut" in tracks.column_names and pc.any(tracks["is_cut"]).as_py():
        connection.register("assigned", assigned)
        bridges = connection.sql(duck.render(BRIDGES)).to_arrow_table()
        assigned = without(assigned, bridges["track_id"])
        connection.unregister("assigned")
    return assigned.add_column(0, "protocol", pa.repeat(protocol.name, assigned.num_rows))


def pca_loadings(connection: duckdb.DuckDBPyConnection, select: str, protocol: Protocol) -> pa.Table:
    """Returns features.pca_loadings: the components with 95 % of the variance of the training rows' z-scores.

    Statistic `pcK` is a feature's loading on component K. Rows of `explained_variance_ratio` have the component as
    feature_name.

    Source: eigenvectors of the covariance matrix; signs as sklearn.decomposition.PCA (largest loading positive).
    """
    products = np.zeros((len(AUDIO_FEATURES), len(AUDIO_FEATURES)))
    n_rows = 0
    for batch in connection.sql(select).to_arrow_reader(65_536):
        z_scores = np.column_stack([column.to_numpy() for column in batch.columns])
        products += z_scores.T @ z_scores
        n_rows += len(z_scores)
    # Rounded, because floating-point sums depend on the order of the rows, and so on the number of threads.
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


def every_table() -> tuple[Table, ...]:
    """Returns TABLES, and the table of each feature set that has one of its own."""
    return (*TABLES, *(table_of(chosen) for chosen in FEATURE_SETS.values() if chosen.table is None))


def table_of(chosen: FeatureSet) -> Table:
    """Returns the table of a feature set's expressions."""
    expressions = {duck.identifier(name): expression for name, expression in chosen.expressions.items()}
    return Table(name=chosen.table_name, expressions=expressions, sql=lambda _: FEATURE_SET)


def template_values(table: Table, source: str, connection: duckdb.DuckDBPyConnection) -> dict[str, object]:
    """Returns what a table's SELECT is rendered with. Args: source: the SELECT's path below sql/."""
    own = {"expressions": table.expressions} if table.expressions else {}
    return duck.dynamic_columns(source, connection) | own


def write_table(
    table: Table,
    protocol: Protocol,
    values: dict[str, object],
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    about_rows: int,
) -> int:
    """Writes a table, made from those that `connection` sees, as a Parquet file. Returns: its number of rows.

    Raises: CheckError: an expression of a feature set has no finite value for some track.
    """
    source = table.select(protocol)
    select = duck.render(source, **template_values(table, source, connection))
    if table.build is not None:
        made = table.build(connection, select, protocol)
        texts = [field.name for field in made.schema if pa.types.is_string(field.type)]
        pq.write_table(made, path, compression="snappy", use_dictionary=texts)
        return int(made.num_rows)
    bound = duck.bound(duck.code(source), values)
    [(rows, *_)] = connection.execute(duck.copy(select, path, about_rows, is_ordered=False), bound).fetchall()
    if table.expressions:
        check_finite(table, protocol, f"read_parquet({duck.literal(path)})", connection)
    return int(rows)


def check_finite(table: Table, protocol: Protocol, rows: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Checks a feature set's expressions on rows: what SQL selects from. Raises: CheckError: one is not finite."""
    select = duck.render(FINITE, expressions=table.expressions, rows=rows)
    for place, track, tracks in connection.execute(select).fetchall():
        column, expression = list(table.expressions.items())[place - 1]
        raise CheckError(
            f"{table.name} of protocol {protocol.name} breaks the rule of sql/{FINITE}.sql: column {column}, "
            f"{expression}, has no finite value for {tracks:,} track(s), such as track_id {track}."
        )


def table_version(table: Table, protocol: Protocol, values: dict[str, object], read: list[str]) -> str:
    """Returns a table's version: a digest of its SQL, code and parameters. Args: read: the versions of its upstream."""
    select = duck.code(table.select(protocol))
    parameters = duck.bound(select, values) | ({"protocol": protocol.name} if table.is_by_protocol else {})
    parameters |= table.expressions
    rules: tuple[object, ...] = (AUDIO_FEATURES, duckdb.__version__)
    if table.build:
        code = [part if isinstance(part, int | float | str) else inspect.getsource(part) for part in table.code]
        rules += (*code, np.__version__, metadata.version("scipy"), metadata.version("scikit-learn"))
    return duck.digest(table.name, select, rules, sorted(parameters.items()), read)


def rare_genres(tables: list[BuiltTable], warehouse: Warehouse) -> str | None:
    """Says which genres were dropped because they are too rare to split; None if none were."""
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
    """Returns the names of the genres, in the order of their codes. Args: mapping: features.genre_mapping."""
    table = pq.read_table(warehouse.here(mapping.path), columns=["genre_id", "music_genre"])
    return tuple(table.sort_by("genre_id")["music_genre"].to_pylist())

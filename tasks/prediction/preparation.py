"""Preparation of new tracks for the models, with the same SQL and the same fitted statistics as the training rows.

A DuckDB workspace holds the new tracks as `staging.stg_tracks`, without split and genre, and the stored statistics as
tables. So the files in sql/features that built features.tracks_clean, tracks_std and tracks_pca for training build them
for the new tracks, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.features.registry import BuiltTable
from tasks.features.tables import FEATURE_SET, Table, every_table
from tasks.ingest.columns import EXPECTED
from tasks.ingest.contents import find_bad_values
from tasks.ingest.units import typed_select
from tasks.specs import AUDIO_FEATURES
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

FITTED_TABLES = ("features.fill_values", "features.scaling", "features.pca_loadings")
FAMILIARITY = pa.schema(
    [pa.field("feature_name", pa.string()), pa.field("statistic", pa.string()), pa.field("value", pa.float64())]
)


@dataclass(frozen=True, slots=True)
class FittedStatistics:
    """The statistics that preparation fitted on training rows, in memory: their files are not needed any more."""

    protocol: str
    tables: dict[str, pa.Table]  # by name
    familiarity: pa.Table
    with_components: bool  # whether the model uses principal components
    own_table: Table | None  # that of the model's feature set, if it has one of its own

    @property
    def unknown(self) -> list[str]:
        """The audio features that no training row had a value of; a new track's value is ignored."""
        known = set(self.tables["features.fill_values"]["feature_name"].to_pylist())
        return [name for name in AUDIO_FEATURES if name not in known]

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest value of each audio feature in the training rows, in the feature's unit."""
        found: dict[str, dict[str, float]] = {name: {} for name in AUDIO_FEATURES}
        for row in (*self.tables["features.scaling"].to_pylist(), *self.familiarity.to_pylist()):
            found.get(row["feature_name"], {})[row["statistic"]] = row["value"]
        return {
            name: (
                known["mean"] + known["low"] * (known["std"] or 1.0),
                known["mean"] + known["high"] * (known["std"] or 1.0),
            )
            for name, known in found.items()
            if {"mean", "std", "low", "high"} <= set(known)
        }

    @classmethod
    def of(
        cls, tables: Mapping[str, BuiltTable], familiarity: list[dict[str, object]], warehouse: Warehouse
    ) -> FittedStatistics:
        """Loads the statistics of a model's features.

        Args: tables: lineage of the features. familiarity: rows of FAMILIARITY.
        """
        names = [name for name in FITTED_TABLES if name in tables]
        own = [table for table in every_table() if table.expressions and table.name in tables]
        return cls(
            tables["features.tracks_std"].protocol or "",
            {name: pq.read_table(warehouse.here(tables[name].path)) for name in names},
            pa.Table.from_pylist(familiarity, FAMILIARITY),
            "features.tracks_pca" in tables,
            own[0] if own else None,
        )


def read_rows(connection: duckdb.DuckDBPyConnection, rows: Sequence[Mapping[str, object]]) -> int:
    """Creates raw.tracks, staging.typed_tracks and raw.rejects from tracks in memory, numbered from 1.

    Args: rows: values by the input's column names (tasks/ingest/columns.py), text or numbers; a missing value is None
        or left out.

    Returns: number of rows rejected, including those without any audio feature.
    """
    columns: dict[str, pa.Array] = {"row_number": pa.array(range(1, len(rows) + 1), pa.int64())}
    for name in EXPECTED:
        values = [None if row.get(name) in {None, ""} else str(row[name]) for row in rows]
        if name == "instance_id":
            values = [value or str(number + 1) for number, value in enumerate(values)]
        columns[name] = pa.array(values, pa.string())
    connection.register("given_tracks", pa.table(columns))
    connection.execute("create or replace table raw.tracks as select * from given_tracks")
    connection.execute(f"create or replace table staging.typed_tracks as {typed_select({})}")
    find_rejects(connection, EXPECTED, has_blank_rows=True)
    [(rejected,)] = connection.execute("select count(distinct row_number) from raw.rejects").fetchall()
    return int(rejected)


def find_rejects(connection: duckdb.DuckDBPyConnection, present: Collection[str], *, has_blank_rows: bool) -> int:
    """Creates raw.rejects from the raw.tracks and staging.typed_tracks of `connection`.

    Args: present: columns of the file, by our names.

    Returns: number of rows rejected, without the blank ones.
    """
    find_bad_values(connection, present)
    select = duck.render("predict/rejects", has_blank_rows=has_blank_rows)
    connection.execute(f"create or replace table raw.rejects as {select}")
    counted = connection.execute("select count(distinct row_number) from raw.rejects where not is_blank")
    [(rejected,)] = counted.fetchall()
    return int(rejected)


def prepare(connection: duckdb.DuckDBPyConnection, fitted: FittedStatistics, first: int, last: int) -> pa.Table:
    """Returns the models' input for rows `first` to `last` without rejects: see sql/predict/prepared_tracks.sql.

    Args: connection: has staging.typed_tracks and raw.rejects.
    """
    for name, table in {**fitted.tables, "features.familiarity": fitted.familiarity}.items():
        given = name.replace("features.", "fitted_")
        connection.register(given, table)
        connection.execute(f"create or replace view {name} as select * from {given}")
    # A new track is in no split, and its genre is not known.
    connection.execute(
        "create or replace view features.split_assignment as "
        "select 0 as track_id, '' as split, 0 as position where false"
    )
    connection.execute(
        "create or replace view features.genre_mapping as select '' as music_genre, 0 as genre_id where false"
    )
    values: dict[str, object] = {"protocol": fitted.protocol, "first": first, "last": last}
    _make(connection, "staging.stg_tracks", "predict/stg_tracks", values, unknown=fitted.unknown)
    _make(connection, "features.tracks_clean", "features/tracks_clean", values)
    _make(connection, "features.tracks_std", "features/tracks_std", values)
    chosen: dict[str, object] = {"components": [], "own_table": None, "own_columns": []}
    if fitted.with_components:
        _make(connection, "features.tracks_pca", "features/tracks_pca", values)
        chosen |= duck.dynamic_columns("features/tracks_pca", connection)
    if fitted.own_table:
        expressions = fitted.own_table.expressions
        _make(connection, fitted.own_table.name, FEATURE_SET, values, expressions=expressions)
        chosen |= {"own_table": fitted.own_table.name, "own_columns": list(expressions)}
    return connection.sql(duck.render("predict/prepared_tracks", **chosen)).to_arrow_table()


def _make(
    connection: duckdb.DuckDBPyConnection, table: str, select: str, values: dict[str, object], **columns: object
) -> None:
    text = duck.render(select, **duck.dynamic_columns(select, connection), **columns)
    connection.execute(f"create or replace table {table} as {text}", duck.bound(duck.code(select), values))

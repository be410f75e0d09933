"""Tracks to predict, made ready for models: by the SELECTs and the learnt tables that made the training rows.

In a DuckDB workspace of their own the new tracks stand where training's tracks stood (`staging.stg_tracks`), without a
split and without a genre, and what was learnt is the stored tables: so features.tracks_clean, tracks_std and tracks_pca
are made by the very files in sql/features that made them for training.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.features.registry import BuiltTable
from tasks.ingest.columns import EXPECTED
from tasks.ingest.contents import find_bad_values
from tasks.ingest.units import typed_select
from tasks.specs import AUDIO_FEATURES
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

LEARNT = ("features.fill_values", "features.scaling", "features.pca_loadings")
FAMILIARITY = pa.schema(
    [pa.field("feature_name", pa.string()), pa.field("statistic", pa.string()), pa.field("value", pa.float64())]
)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What preparation learnt from training rows, in memory: no file has to stay once it is loaded."""

    protocol: str
    tables: dict[str, pa.Table]  # by name
    familiarity: pa.Table
    with_components: bool  # whether a model takes principal components

    @property
    def unknown(self) -> list[str]:
        """The audio features of which no training row had a value: what a track has there says nothing."""
        known = set(self.tables["features.fill_values"]["feature_name"].to_pylist())
        return [name for name in AUDIO_FEATURES if name not in known]

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The lowest and the highest value of each audio feature over the training rows, in its unit."""
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
    def of(cls, tables: Mapping[str, BuiltTable], familiarity: list[dict[str, object]], warehouse: Warehouse) -> Learnt:
        """Args: tables: the lineage of a model's features."""
        names = [name for name in LEARNT if name in tables]
        return cls(
            tables["features.tracks_std"].protocol or "",
            {name: pq.read_table(warehouse.here(tables[name].path)) for name in names},
            pa.Table.from_pylist(familiarity, FAMILIARITY),
            "features.tracks_pca" in tables,
        )


def read_rows(connection: duckdb.DuckDBPyConnection, rows: Sequence[Mapping[str, object]]) -> int:
    """Make raw.tracks, staging.typed_tracks and raw.rejects of tracks in memory, numbered from 1.

    Args: rows: values by the input's column names (tasks/ingest/columns.py), text or numbers; missing: None or
        left out.
    Returns: rows rejected, those without any audio feature included.
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
    """Make raw.rejects of the raw.tracks and staging.typed_tracks that `connection` sees.

    Args: present: the columns of the file, by our names. Returns: rows rejected, blank ones not counted.
    """
    find_bad_values(connection, present)
    select = duck.render("predict/rejects", has_blank_rows=has_blank_rows)
    connection.execute(f"create or replace table raw.rejects as {select}")
    counted = connection.execute("select count(distinct row_number) from raw.rejects where not is_blank")
    [(rejected,)] = counted.fetchall()
    return int(rejected)


def prepare(connection: duckdb.DuckDBPyConnection, learnt: Learnt, first: int, last: int) -> pa.Table:
    """What models are given of rows `first` to `last`, rejects left out: see sql/predict/prepared_tracks.sql.

    Args: connection: sees staging.typed_tracks and raw.rejects.
    """
    for name, table in {**learnt.tables, "features.familiarity": learnt.familiarity}.items():
        given = name.replace("features.", "learnt_")
        connection.register(given, table)
        connection.execute(f"create or replace view {name} as select * from {given}")
    # A track to predict is in no split, and its genre is not known.
    connection.execute(
        "create or replace view features.split_assignment as "
        "select 0 as track_id, '' as split, 0 as position where false"
    )
    connection.execute(
        "create or replace view features.genre_mapping as select '' as music_genre, 0 as genre_id where false"
    )
    values: dict[str, object] = {"protocol": learnt.protocol, "first": first, "last": last}
    _make(connection, "staging.stg_tracks", "predict/stg_tracks", values, unknown=learnt.unknown)
    _make(connection, "features.tracks_clean", "features/tracks_clean", values)
    _make(connection, "features.tracks_std", "features/tracks_std", values)
    components: object = []
    if learnt.with_components:
        _make(connection, "features.tracks_pca", "features/tracks_pca", values)
        components = duck.dynamic_columns("features/tracks_pca", connection)["components"]
    return connection.sql(duck.render("predict/prepared_tracks", components=components)).to_arrow_table()


def _make(
    connection: duckdb.DuckDBPyConnection, table: str, select: str, values: dict[str, object], **columns: object
) -> None:
    text = duck.render(select, **duck.dynamic_columns(select, connection), **columns)
    connection.execute(f"create or replace table {table} as {text}", duck.bound(duck.code(select), values))

"""Preparation of new tracks for the models, with the same SQL and the same fitted statistics as the training rows.

A DuckDB workspace holds the new tracks as `staging.stg_tracks`, without split and genre, and the stored statistics as
tables. So the files in sql/features that built features.tracks_clean, tracks_std and tracks_pca for training build them
for the new tracks, too. A few tracks in memory are prepared in one pass, which gives the same to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.features.registry import BuiltTable
from tasks.features.tables import FEATURE_SET, Table, every_table
from tasks.ingest.columns import AUDIO_COLUMNS, EXPECTED
from tasks.ingest.contents import bad_values
from tasks.ingest.units import typed_select
from tasks.specs import AUDIO_FEATURES
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

Rows = Sequence[Mapping[str, object]]
READING: Mapping[str, Callable[[], str]] = {
    "raw.tracks": lambda: "select * from given_tracks",
    "staging.typed_tracks": lambda: typed_select({}),
}
# Columns of staging.typed_tracks that tell missing values from those that cannot be used.
MISSING_FLAGS = {"tempo": "is_tempo_missing", "duration_ms": "is_duration_missing", "key": "is_key_missing"}
FAMILIARITY_TABLE = "features.familiarity"
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
    def values(self) -> dict[tuple[str | None, str], float]:
        """The statistics by feature, None for one of all features, and by name; fill values are those of no genre."""
        return {
            (row["feature_name"], row["statistic"]): row["value"]
            for table in (*self.tables.values(), self.familiarity)
            for row in table.to_pylist()
            if row.get("genre") is None
        }

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest value of each audio feature in the training rows, in the feature's unit."""
        known = self.values
        found = {}
        for name in AUDIO_FEATURES:
            if all((name, statistic) in known for statistic in ("mean", "std", "low", "high")):
                mean, std = known[name, "mean"], known[name, "std"] or 1.0
                found[name] = (mean + known[name, "low"] * std, mean + known[name, "high"] * std)
        return found

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


def read_rows(connection: duckdb.DuckDBPyConnection, rows: Rows) -> int:
    """Creates raw.tracks, staging.typed_tracks and raw.rejects from tracks in memory, numbered from 1.

    Args: rows: values by the input's column names (tasks/ingest/columns.py), text or numbers; a missing value is None
        or left out.

    Returns: number of rows rejected, including those without any audio feature.
    """
    connection.register("given_tracks", _texts(rows))
    for table, select in READING.items():
        connection.execute(f"create or replace table {table} as {select()}")
    find_rejects(connection, EXPECTED, has_blank_rows=True)
    [(rejected,)] = connection.execute("select count(distinct row_number) from raw.rejects").fetchall()
    return int(rejected)


def _texts(rows: Rows) -> pa.Table:
    """Returns the rows of raw.tracks."""
    columns: dict[str, pa.Array] = {"row_number": pa.array(range(1, len(rows) + 1), pa.int64())}
    for name in EXPECTED:
        values = [None if (value := row.get(name)) is None or value == "" else str(value) for row in rows]
        if name == "instance_id":
            values = [value or str(number + 1) for number, value in enumerate(values)]
        columns[name] = pa.array(values, pa.string())
    return pa.table(columns)


def find_rejects(connection: duckdb.DuckDBPyConnection, present: Collection[str], *, has_blank_rows: bool) -> int:
    """Creates raw.rejects from the raw.tracks and staging.typed_tracks of `connection`.

    Args: present: columns of the file, by our names.

    Returns: number of rows rejected, without the blank ones.
    """
    for table, select in _reject_selects(present, has_blank_rows=has_blank_rows).items():
        connection.execute(f"create or replace table {table} as {select}")
    counted = connection.execute("select count(distinct row_number) from raw.rejects where not is_blank")
    [(rejected,)] = counted.fetchall()
    return int(rejected)


def _reject_selects(present: Collection[str], *, has_blank_rows: bool) -> dict[str, str]:
    return {
        "raw.bad_values": bad_values(present),
        "raw.rejects": duck.render("predict/rejects", has_blank_rows=has_blank_rows),
    }


def prepare(connection: duckdb.DuckDBPyConnection, fitted: FittedStatistics, first: int, last: int) -> pa.Table:
    """Returns the models' input for rows `first` to `last` without rejects: see sql/predict/prepared_tracks.sql.

    Args: connection: has staging.typed_tracks and raw.rejects.
    """
    steps, inputs = _selects(connection, fitted, first, last)
    for table, select in steps.items():
        connection.execute(f"create or replace table {table} as {select}")
    return connection.sql(inputs).to_arrow_table()


def _selects(
    connection: duckdb.DuckDBPyConnection, fitted: FittedStatistics, first: int, last: int
) -> tuple[dict[str, str], str]:
    """Defines a model's fitted statistics as views, and returns the SELECTs that prepare its input.

    Returns: the SELECT of each table, in the order in which they are made; and the SELECT of the input.
    """
    for name, table in {**fitted.tables, FAMILIARITY_TABLE: fitted.familiarity}.items():
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
    values = {"protocol": duck.literal(fitted.protocol), "first": str(first), "last": str(last)}

    def rendered(select: str, **columns: object) -> str:
        text = duck.render(select, **duck.dynamic_columns(select, connection), **columns)
        return re.sub(r"\$(protocol|first|last)\b", lambda named: values[named[1]], text)

    steps = {
        "staging.stg_tracks": rendered("predict/stg_tracks", unknown=fitted.unknown),
        "features.tracks_clean": rendered("features/tracks_clean"),
        "features.tracks_std": rendered("features/tracks_std"),
    }
    chosen: dict[str, object] = {"components": [], "own_table": None, "own_columns": []}
    if fitted.with_components:
        steps["features.tracks_pca"] = rendered("features/tracks_pca")
        chosen |= duck.dynamic_columns("features/tracks_pca", connection)
    if fitted.own_table:
        expressions = fitted.own_table.expressions
        steps[fitted.own_table.name] = rendered(FEATURE_SET, expressions=expressions)
        chosen |= {"own_table": fitted.own_table.name, "own_columns": list(expressions)}
    return steps, duck.render("predict/prepared_tracks", **chosen)


class PlannedPreparation:
    """Prepares tracks in memory as `read_rows` and `prepare` do, in one statement that is planned once.

    For few rows DuckDB takes far longer to plan SELECTs than to run them, and longer for each table than for its rows.
    So it is one SELECT without tables in between (sql/predict/rows_in_one_pass.sql). DuckDB keeps the plan of a
    prepared statement that reads registered Arrow data and no table. It takes that data anew from the registered object
    at each execution.

    One thread at a time may use it.
    """

    def __init__(self, fitted: FittedStatistics) -> None:
        self._given = _GivenTracks(_texts([]))
        self._connection = duck.for_few_rows()
        self._connection.register("given_tracks", self._given)
        self._rejects: list[tuple[int, str, str]] = []
        read = {table: select() for table, select in READING.items()}
        checked = read | _reject_selects(EXPECTED, has_blank_rows=True)
        rejects = "select row_number, column_name, error from raw.rejects"
        self._connection.execute(f"prepare rejects as {_merged(checked, rejects)} order by all")
        self._connection.execute(f"prepare inputs as {_merged(read, _in_one_pass(fitted))} order by row_number")

    def prepare(self, rows: Rows) -> pa.Table:
        """Returns the models' input for the rows without rejects, as `prepare` does. Args: rows: as for `read_rows`."""
        self._given.table = given = _texts(rows)
        columns = self._connection.execute("execute inputs").fetchnumpy()  # `sql(...)` would bind it once more
        n_unclear = columns.pop("n_unclear")
        inputs = pa.table({name: pa.array(values) for name, values in columns.items()})
        usable = _usable(given, inputs, n_unclear)
        self._given.table = given.filter(pc.invert(pc.is_in(given["row_number"], usable)))
        self._rejects = self._connection.execute("execute rejects").fetchall() if len(self._given.table) else []
        rejected = pa.array({row for row, *_ in self._rejects}, pa.int64())
        return inputs.filter(pc.invert(pc.is_in(inputs["row_number"], rejected))) if self._rejects else inputs

    def rejects(self) -> list[tuple[int, str, str]]:
        """Returns the rejects among the rows that were prepared last: row_number, column_name and error."""
        return self._rejects


def _usable(given: pa.Table, inputs: pa.Table, n_unclear: np.ndarray) -> pa.ChunkedArray:
    """Returns row_number of the rows that certainly have no reject: an id, and no value that was given becomes NULL.

    A mode may be part of the key, so it is not certain where none is given. Args: n_unclear: of each row of `inputs`.
    """
    at = inputs["row_number"].to_numpy() - 1
    names = [name for name in AUDIO_COLUMNS if name not in MISSING_FLAGS] if n_unclear.any() else []
    absent = {name: given[name].is_null().to_numpy()[at] for name in names}
    has_all = (n_unclear == sum(absent.values())) & ~absent.get("mode", np.False_)
    return inputs["row_number"].filter(pc.and_(pa.array(has_all), inputs["track_id"].is_valid()))


def _in_one_pass(fitted: FittedStatistics) -> str:
    """Returns the SELECT of sql/predict/rows_in_one_pass.sql, with a model's fitted statistics as constants."""
    known = fitted.values

    def constant(statistic: str, feature: str | None = None) -> str:
        value = known.get((feature, statistic))
        return "null" if value is None else f"'{value!r}'::double"  # a text keeps every bit

    def over_features(statistic: str) -> list[str]:
        return [constant(statistic, name) for name in sorted(AUDIO_FEATURES) if (name, statistic) in known]

    components = {name for _, name in known if re.fullmatch(r"pc\d+", name)} if fitted.with_components else set()
    return duck.render(
        "predict/rows_in_one_pass",
        flags={"key_code" if name == "key" else name: flag for name, flag in MISSING_FLAGS.items()},
        unknown=fitted.unknown,
        constant=constant,
        over_features=over_features,
        components=sorted(components, key=lambda name: int(name[2:])),
        expressions=fitted.own_table.expressions if fitted.own_table else {},
    )


class _GivenTracks:
    """The rows of raw.tracks, as an object that exports whichever table it holds (Arrow's PyCapsule interface)."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Returns the rows as an Arrow stream."""
        return self.table.__arrow_c_stream__(requested_schema)


def _merged(steps: Mapping[str, str], last: str) -> str:
    """Returns one SELECT in which steps are common table expressions in place of tables.

    Args: steps: the SELECT of each table by its name; each reads those before it. last: the SELECT that reads them.
    """
    named = re.compile("|".join(rf"\b{re.escape(table)}\b" for table in steps))

    def renamed(select: str) -> str:
        return named.sub(lambda table: duck.identifier(table[0]), select)

    parts = [f"{duck.identifier(table)} as (\n{renamed(select)}\n)" for table, select in steps.items()]
    return f"with {', '.join(parts)} select * from (\n{renamed(last)}\n)"

"""Snapshots: the record of each ingested file, and its tables as views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError, one_line
from tasks.ingest.columns import EXPECTED
from tasks.specs import Statistics
from tasks.storage import duck
from tasks.storage.damage import is_whole, read_rows
from tasks.storage.publication import readable
from tasks.storage.warehouse import Warehouse

STORED_TABLES = (("raw", "tracks"), ("raw", "rejects"), ("staging", "typed_tracks"))  # of each ingested file
SNAPSHOT = pa.schema(
    [
        pa.field("snapshot", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("is_generated", pa.bool_(), nullable=False),
        pa.field("is_study_file", pa.bool_(), nullable=False),
        pa.field("rows_read", pa.int64(), nullable=False),
        pa.field("blank_rows", pa.int64(), nullable=False),
        pa.field("rows_without_genre", pa.int64(), nullable=False),
        pa.field("rejected_rows", pa.int64(), nullable=False),
        pa.field("rejected_values", pa.int64(), nullable=False),
        pa.field("ingest_seconds", pa.float64(), nullable=False),
        pa.field("content", pa.string()),  # digest of what was read, whether alone or appended
        pa.field("parts", pa.list_(pa.string())),  # snapshots it consists of: bases in order, then itself
        pa.field("statistics", pa.string()),  # of an appended snapshot: kept or relearned
        pa.field("columns", pa.list_(pa.string())),  # expected columns that have values
        pa.field("scales", pa.list_(pa.string())),  # column=unit for columns that seem to be in another unit
        pa.field("notes", pa.list_(pa.string())),  # messages on how the file was read
    ]
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The record of an ingested file, a row of raw.snapshots. If appended, its counts include the rows of its base."""

    snapshot: str
    source: str
    is_generated: bool
    is_study_file: bool
    rows_read: int
    blank_rows: int
    rows_without_genre: int
    rejected_rows: int
    rejected_values: int
    ingest_seconds: float
    content: str | None = None
    parts: tuple[str, ...] = ()
    statistics: Statistics | None = None
    columns: tuple[str, ...] = tuple(EXPECTED)
    scales: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def base(self) -> str | None:
        """The snapshot that this one was appended to."""
        return self.parts[-2] if len(self.parts) > 1 else None

    @property
    def tag(self) -> str:
        """The kind of data, as a tag in the Prefect UI."""
        return "data:generated" if self.is_generated else "data:study" if self.is_study_file else "data:own"

    @property
    def summary(self) -> str:
        """The source and its row counts, as one line for the user."""
        parts = [f"{self.rows_read:,} rows read"]
        parts += [f"{self.blank_rows:,} blank"] if self.blank_rows else []
        parts += [f"{self.rows_without_genre:,} without a genre dropped"] if self.rows_without_genre else []
        parts += [f"{self.rejected_rows:,} rejected (see raw.rejects)"] if self.rejected_rows else []
        return f"{self.source}: " + ", ".join(parts)


def load_snapshot(identity: str, warehouse: Warehouse) -> Snapshot:
    """Returns the record of an ingested file. Raises: UserError: it is missing or damaged."""
    found = stored_snapshots(warehouse, identity)
    if not found:
        raise UserError(f"{warehouse.address}: what was read as snapshot {identity} is gone. Read its source again.")
    return found[identity]


def stored_snapshots(warehouse: Warehouse, identity: str | None = None) -> dict[str, Snapshot]:
    """Returns the readable records of ingested files, by snapshot. Args: identity: only this snapshot."""
    files = (
        [warehouse.here(warehouse.table("raw", "snapshots", identity))]
        if identity
        else warehouse.files("raw", "snapshots")
    )
    rows = read_rows(files, SNAPSHOT, warehouse).to_pylist()
    lists = {"columns": EXPECTED, "scales": [], "notes": []}
    return {
        row["snapshot"]: Snapshot(
            **row
            | {name: tuple(row[name] or default) for name, default in lists.items()}
            | {"parts": tuple(row["parts"] or [row["snapshot"]])}
        )
        for row in rows
    }


def is_stored(identity: str, warehouse: Warehouse) -> bool:
    """Whether the record of an ingested file exists and all its tables are complete; see `damage.is_whole`."""
    record = stored_snapshots(warehouse, identity).get(identity)
    tables = [warehouse.table(*name, part) for part in (record.parts if record else ()) for name in STORED_TABLES]
    return bool(tables) and sum(is_whole(table, warehouse) for table in tables) == len(tables)


def find_snapshot(named: str, warehouse: Warehouse) -> Snapshot:
    """Returns a snapshot by its name, or for `latest` the snapshot of the published tables.

    Raises: UserError: there is no such snapshot, or nothing is published.
    """
    if named == "latest":
        if not warehouse.database.exists():
            raise UserError(f"{warehouse.address}: nothing is published there yet. Ingest a file first.")
        with readable(warehouse) as database, duckdb.connect(str(database), read_only=True) as connection:
            [(named,)] = connection.execute("select snapshot from raw.snapshots where is_published").fetchall()
    known = [file.stem for file in warehouse.files("raw", "snapshots")]
    if named not in known:
        raise UserError(
            f"{warehouse.address}: has no snapshot '{one_line(named)}'. Those it has: select snapshot, source, "
            "statistics from raw.snapshots. The one that is published: latest."
        )
    return load_snapshot(named, warehouse)


def attach(
    connection: duckdb.DuckDBPyConnection, snapshot: str, warehouse: Warehouse, *, is_published: bool = False
) -> None:
    """Creates views of a snapshot's raw.tracks, raw.rejects and staging.typed_tracks in a connection.

    Args: is_published: the views name files so that other machines can read them, too.
    """
    parts = load_snapshot(snapshot, warehouse).parts
    tracks, rejects, typed = ([warehouse.table(*name, part) for part in parts] for name in STORED_TABLES)
    warehouse.fetch([*tracks, *rejects, *typed])
    named = warehouse.location if is_published else str
    define_raw_tracks(connection, *tracks, named=named)
    duck.view(connection, "raw.rejects", *map(named, rejects))
    duck.view(connection, "staging.typed_tracks", *map(named, typed))


def define_raw_tracks(
    connection: duckdb.DuckDBPyConnection, *files: Path, after: int = 0, named: Callable[[Path], str] = str
) -> None:
    """Creates raw.tracks as a view over files that `copy_raw` wrote.

    Args: after: number of rows before them. named: returns the name of a file in the view.
    """
    parts = []
    for path in files:
        with pq.ParquetFile(path) as file:
            has_instance_id = "instance_id" in file.schema_arrow.names
            parts.append(
                {"path": duck.literal(named(path)), "first_row": after + 1, "has_instance_id": has_instance_id}
            )
            after += file.metadata.num_rows
    connection.execute(f"create or replace view raw.tracks as {duck.render('raw/numbered_tracks', parts=parts)}")

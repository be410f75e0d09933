"""What was ingested: the record of each file, and its tables as views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError, one_line
from tasks.ingest.columns import EXPECTED
from tasks.storage import duck
from tasks.storage.damage import is_whole, read_rows
from tasks.storage.publication import readable
from tasks.storage.warehouse import Warehouse

Statistics = Literal["relearned", "kept"]
TABLES = (("raw", "tracks"), ("raw", "rejects"), ("staging", "typed_tracks"))  # what is stored of an ingested file
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
        pa.field("content", pa.string()),  # what was read: the same of a file read by itself or appended to any other
        pa.field("parts", pa.list_(pa.string())),  # the snapshots whose files it is made of, the first and itself last
        pa.field("statistics", pa.string()),  # of one that was appended: kept or relearned
        pa.field("columns", pa.list_(pa.string())),  # of ours that hold values
        pa.field("scales", pa.list_(pa.string())),  # column=unit of those that seem to be in another unit
        pa.field("notes", pa.list_(pa.string())),  # what a reader must know of how it was read, a line each
    ]
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One ingested file, or one appended to others, whose rows are counted, too; its columns as in raw.snapshots."""

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
        """The snapshot that it was appended to."""
        return self.parts[-2] if len(self.parts) > 1 else None

    @property
    def tag(self) -> str:
        """What kind of data it is, as a tag in the Prefect UI."""
        return "data:generated" if self.is_generated else "data:study" if self.is_study_file else "data:own"

    @property
    def summary(self) -> str:
        """One line for people."""
        parts = [f"{self.rows_read:,} rows read"]
        parts += [f"{self.blank_rows:,} blank"] if self.blank_rows else []
        parts += [f"{self.rows_without_genre:,} without a genre dropped"] if self.rows_without_genre else []
        parts += [f"{self.rejected_rows:,} rejected (see raw.rejects)"] if self.rejected_rows else []
        return f"{self.source}: " + ", ".join(parts)


def load_snapshot(identity: str, warehouse: Warehouse) -> Snapshot:
    """The record of an ingested file. Raises: UserError: it is gone, or damaged."""
    found = stored_snapshots(warehouse, identity)
    if not found:
        raise UserError(f"{warehouse.address}: what was read as snapshot {identity} is gone. Read its source again.")
    return found[identity]


def stored_snapshots(warehouse: Warehouse, identity: str | None = None) -> dict[str, Snapshot]:
    """The record of every ingested file that can be read, by its name, or of one."""
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
    """Whether the record of an ingested file is there, with every table that it stands for; see `damage.is_whole`."""
    record = stored_snapshots(warehouse, identity).get(identity)
    tables = [warehouse.table(*name, part) for part in (record.parts if record else ()) for name in TABLES]
    return bool(tables) and sum(is_whole(table, warehouse) for table in tables) == len(tables)


def find_snapshot(named: str, warehouse: Warehouse) -> Snapshot:
    """A snapshot by its name, or `latest`: that of the tables in music.duckdb.

    Raises: UserError: there is none of that name, or nothing is published.
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
    """Make raw.tracks, raw.rejects and staging.typed_tracks of a snapshot visible to `connection`.

    Args: is_published: by views that other machines read, too.
    """
    parts = load_snapshot(snapshot, warehouse).parts
    tracks, rejects, typed = ([warehouse.table(*name, part) for part in parts] for name in TABLES)
    warehouse.fetch([*tracks, *rejects, *typed])
    named = warehouse.location if is_published else str
    define_raw_tracks(connection, *tracks, named=named)
    duck.view(connection, "raw.rejects", *map(named, rejects))
    duck.view(connection, "staging.typed_tracks", *map(named, typed))


def define_raw_tracks(
    connection: duckdb.DuckDBPyConnection, *files: Path, after: int = 0, named: Callable[[Path], str] = str
) -> None:
    """Make the rows that `copy_raw` wrote visible as raw.tracks.

    Args: after: rows that come before them. named: what the view calls a file.
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

"""The selection of one track, from a file or from the tracks of the warehouse, into a DuckDB workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import duckdb

from tasks.errors import UserError
from tasks.feedback.nearest import Known
from tasks.ingest.columns import MIN_FEATURES
from tasks.ingest.sources import opened
from tasks.prediction.batch import reading
from tasks.specs import MAX_SOURCE_BYTES
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

SHOWN = 10  # ids that a message lists


@dataclass(frozen=True, slots=True)
class SelectedTrack:
    """A track: row `row_number` of staging.typed_tracks in the workspace `connection`, which also has raw.rejects."""

    connection: duckdb.DuckDBPyConnection
    row_number: int
    is_known: bool  # whether it is one of the warehouse's tracks
    source: str
    notes: tuple[str, ...] = ()  # on the file, see tasks.prediction.batch.ReadTracks


@contextmanager
def selected_track(
    tracks: str | None,
    track_id: int | None,
    columns: Mapping[str, str],
    known: Known,
    warehouse: Warehouse,
    units: Mapping[str, str] = MappingProxyType({}),
    min_features: int = MIN_FEATURES,
    max_bytes: int = MAX_SOURCE_BYTES,
) -> Iterator[SelectedTrack]:
    """Yields the track with the id `track_id`, in a workspace that lasts as long as the block.

    Args:
        tracks: path, URL or sample[:ROWS]; None: the track is one of `known`.
        track_id: its instance_id, or its row number if the file has no ids; None: the file has one track only.
        columns: our column names to the file's.
        known: the tracks of the warehouse.
        warehouse: lends its folder for temporary files.
        units: see tasks.prediction.batch.reading.
        min_features: see tasks.prediction.batch.reading.
        max_bytes: largest size of the file.

    Raises: UserError: there is no such track, or more than one, or it is rejected.
    """
    if tracks is None:
        with duck.workspace(spill=warehouse.scratch) as connection:
            yield _known_track(connection, track_id, known)
    else:
        warehouse.sweep()
        with (
            opened(tracks, warehouse, max_bytes) as file,
            reading(file, columns, warehouse, units, min_features) as read,
        ):
            row = _row_of(read.connection, track_id, file.label)
            yield SelectedTrack(read.connection, row, False, file.label, read.notes)


def _known_track(connection: duckdb.DuckDBPyConnection, track_id: int | None, known: Known) -> SelectedTrack:
    if track_id is None:
        raise UserError("Which track? Name a file of tracks, or one of the warehouse's own with --track-id.")
    known.attach(connection)
    known_track = "select * replace (1 as row_number) from known_tracks where track_id = $id"
    connection.execute(f"create table staging.typed_tracks as {known_track}", {"id": track_id})
    connection.execute("create table raw.rejects as select 0 as row_number where false")
    if not connection.execute("from staging.typed_tracks").fetchall():
        raise UserError(f"--track-id {track_id}: is none of the {known.n_rows:,} known tracks, of {known.source}.")
    return SelectedTrack(connection, 1, True, known.source)


def _row_of(connection: duckdb.DuckDBPyConnection, track_id: int | None, label: str) -> int:
    """Returns the row number of the track with that id; None: of the only track."""
    query = (
        "select row_number, track_id from staging.typed_tracks where $id is null or track_id = $id "
        f"order by row_number limit {SHOWN + 1}"
    )
    rows = connection.execute(query, {"id": track_id}).fetchall()
    if not rows:
        wanted = "track" if track_id is None else f"track with id {track_id}"
        raise UserError(f"{label}: has no {wanted}. Ids are those of instance_id, else row numbers from 1.")
    if len(rows) > 1 and track_id is not None:
        raise UserError(f"{label}: has id {track_id} more than once (rows {rows[0][0]} and {rows[1][0]}). Keep one.")
    if len(rows) > 1:
        shown = ", ".join(str(number) for _, number in rows[:SHOWN]) + (", ..." if len(rows) > SHOWN else "")
        raise UserError(f"{label}: has more than one track. Choose one with --track-id: {shown}.")
    [(row, _)] = rows
    query = "select column_name, error from raw.rejects where row_number = $row order by column_name limit 1"
    for column, error in connection.execute(query, {"row": row}).fetchall():
        raise UserError(f"{label}: row {row} was rejected: {column}: {error}.")
    return int(row)

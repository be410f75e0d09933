"""Checks of a file's content: which columns have values, which values are bad, and whether it can be appended."""

from __future__ import annotations

from collections.abc import Collection

import duckdb
import pyarrow.parquet as pq

from tasks.errors import InputError
from tasks.ingest.columns import AUDIO_COLUMNS, COLUMN_OF, MEASURED, TARGET_COLUMNS, Matched
from tasks.ingest.snapshots import Snapshot
from tasks.ingest.units import Doubt, doubt_messages
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

# Columns that an appended file and its base must both have.
COMPARED = ("artist_name", *TARGET_COLUMNS, *AUDIO_COLUMNS)
ENOUGH_ROWS = 20  # from which on the unit of a column can be recognized


def with_values(connection: duckdb.DuckDBPyConnection, matched: Matched) -> tuple[str, ...]:
    """Returns the expected columns with a value, even a bad one, in any row; and instance_id if the file has it."""
    counted = connection.execute("select count(columns(*)) from staging.typed_tracks")
    names = [COLUMN_OF.get(description[0], description[0]) for description in counted.description or []]
    counts = dict(zip(names, counted.fetchall()[0], strict=True)) | {"instance_id": 1}

    def has_values(name: str) -> bool:
        text = duck.identifier(name)
        query = f"select exists (select 1 from raw.tracks where not is_missing({text}))"
        return bool(counts.get(name)) or connection.execute(query).fetchall()[0][0]

    return tuple(name for name in matched.present if name != "obtained_date" and has_values(name))


def about_columns(columns: Collection[str]) -> list[str]:
    """Returns messages on what a file cannot be used for, because columns are missing."""
    lines = []
    for name, consequence in (
        ("music_genre", "popularity alone is predicted"),
        ("popularity", "genre alone is predicted"),
        ("artist_name", "cold_start and what artists shared are worth cannot be measured"),
    ):
        if name not in columns and (name == "artist_name" or not {*TARGET_COLUMNS}.isdisjoint(columns)):
            lines.append(f"no column {name} with values: {consequence}.")
    if absent := [name for name in AUDIO_COLUMNS if name not in columns]:
        lines.append(f"audio features that are not there: {', '.join(absent)}.")
    return lines


def find_bad_values(
    connection: duckdb.DuckDBPyConnection,
    present: Collection[str],
    *,
    has_genre: bool = False,
    targets: Collection[str] = (),
) -> None:
    """Creates raw.bad_values from the raw.tracks and staging.typed_tracks of a connection. Args: see `bad_values`."""
    select = bad_values(present, has_genre=has_genre, targets=targets)
    connection.execute(f"create or replace table raw.bad_values as {select}")


def bad_values(present: Collection[str], *, has_genre: bool = False, targets: Collection[str] = ()) -> str:
    """Returns the SELECT of raw.bad_values.

    Args: present: expected columns that the file has. has_genre, targets: see sql/raw/bad_values.sql.
    """
    measured = [name for name in (*MEASURED, "mode") if name in present]
    return duck.render("raw/bad_values", measured=measured, has_genre=has_genre, targets=sorted(targets))


def check_like(label: str, columns: Collection[str], found: list[Doubt], rows: int, base: Snapshot) -> None:
    """Raises: InputError: an appended file has values in a column that its base lacks, or values on another scale."""
    if added := [name for name in COMPARED if name in columns and name not in base.columns]:
        raise InputError(
            f"{label}: has {', '.join(added)}, which the tracks that it is appended to have no values of. Append it to "
            "tracks with the same columns, or leave the column out."
        )
    own, before = {doubt.name for doubt in found}, set(base.scales)
    if new := [doubt for doubt in found if doubt.name not in before]:
        raise InputError(
            f"{label}: is on another scale than the tracks that it is appended to. {' '.join(doubt_messages(new))}"
        )
    if (gone := before - own) and rows >= ENOUGH_ROWS:
        raise InputError(
            f"{label}: is on another scale than the tracks that it is appended to, in which {', '.join(sorted(gone))} "
            "is likely. Bring the file to their scale, or ingest them again with --units."
        )


def check_appended(label: str, present: Collection[str], base: Snapshot, warehouse: Warehouse) -> None:
    """Raises: InputError: an appended file lacks a column of its base, or only one of the two has ids.

    Row numbers, which replace missing ids, could be the ids of other tracks.
    """
    lacking = [name for name in COMPARED if name in base.columns and name not in present]
    if lacking:
        raise InputError(
            f"{label}: lacks {', '.join(lacking)}, which the tracks that it is appended to have. Give a file with the "
            "same columns (other names with --columns our_name=their_name)."
        )
    has_ids = "instance_id" in present
    first = warehouse.here(warehouse.table("raw", "tracks", base.parts[0]))
    if has_ids != ("instance_id" in pq.read_schema(first).names):
        has, lacks = (
            ("the file has", "the tracks that it is appended to do not")
            if has_ids
            else ("the tracks that it is appended to have", "the file does not")
        )
        raise InputError(
            f"{label}: {has} a column instance_id, {lacks}. Row numbers, which stand in for it, could be ids of other "
            "tracks. Give all of them ids (another name with --columns instance_id=...), or none."
        )

"""Reads a source file into a snapshot: raw.tracks, raw.rejects with reasons, staging.typed_tracks, and counts."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import InputError, UserError, is_about_room
from tasks.ingest import parquet
from tasks.ingest.columns import MISSING_WORDING, TARGET_COLUMNS, Matched, check_present, match_columns
from tasks.ingest.contents import about_columns, check_appended, check_like, find_bad_values, with_values
from tasks.ingest.genres import know_spellings
from tasks.ingest.snapshots import (
    SNAPSHOT,
    Snapshot,
    attach,
    define_raw_tracks,
    find_snapshot,
    is_stored,
    load_snapshot,
)
from tasks.ingest.source_names import BYTES_OF_ROW, STORED, catalogue_of, local_file
from tasks.ingest.source_names import check as check_name
from tasks.ingest.sources import SourceFile, opened
from tasks.ingest.units import doubt_messages, doubts, look, typed_select
from tasks.specs import MAX_SOURCE_BYTES, MISSING, Statistics
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse, flush

# The result of sql/raw/fingerprint.sql for the study's file; only for that file the study's figures apply.
STUDY_ROWS = 50_005
STUDY_FINGERPRINT = "2b63882f43a25ea5"
READING = (
    "raw/tracks",
    "raw/numbered_tracks",
    "staging/genre_spellings",
    "staging/typed_tracks",
    "raw/bad_values",
    "raw/rejects",
    "raw/located_rejects",
    "staging/base_ids",
    "staging/base_genres",
)
SOME = 1_000  # rejected rows that are kept of a refused file; also the rows in one batch of located lines

REJECTS = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),
        pa.field("column_name", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("csv_line", pa.string()),
        pa.field("row_number", pa.int64(), nullable=False),
    ]
)
REASONS = (  # part of a DuckDB message, whether its line number is right, what is wrong with the file
    ("out of memory", False, "takes more memory than $MUSIC_MEMORY_LIMIT allows, or more of the disk than is free."),
    ("maximum line size", True, "is longer than the 2,000,000 bytes that a row may have."),
    ("gzip", False, "is a damaged gzip file, or one with something after its end. Compress it again."),
    ("unterminated quote", True, "a quoted value does not end."),
    ("unicode", True, "is not in UTF-8. Save the file as UTF-8."),
    ("utf-8", True, "is not in UTF-8. Save the file as UTF-8."),
)
LINES = pa.schema([("file_row", pa.int64()), ("line", pa.int64()), ("csv_line", pa.string())])


@dataclass(frozen=True, slots=True)
class Append:
    """The snapshot to append a file to, and how its fitted statistics are treated."""

    to: str  # a snapshot, or `latest` for the published one
    statistics: Statistics = "relearned"


def ingest(
    source: str,
    mapping: Mapping[str, str],
    max_reject_share: float,
    warehouse: Warehouse,
    append: Append | None = None,
    units: Mapping[str, str] = MappingProxyType({}),
    required: Collection[str] = (),
    max_bytes: int = MAX_SOURCE_BYTES,
) -> Snapshot:
    """Reads a source into the warehouse, unless the same content was read in the same way before.

    Of an appended file only its own rows are read; the snapshot shows the rows of its base before them. A file that is
    appended again adds nothing.

    Args: source: path, URL, `sample[:ROWS]`, or `snapshot:ID` of an existing snapshot. mapping: expected column name to
        the file's. max_reject_share: of the rows with content, 0 to 1; a larger share of rejected rows is an error.
        units: by column, where the file has another unit than the project. required: columns that must have values.
        max_bytes: largest size of the source, also when unpacked.

    Raises: InputError: the file, or too large a share of its rows, is refused. UserError: there is no such snapshot, or
        generated tracks would be appended to real ones or real ones to generated.
    """
    if not 0.0 <= max_reject_share <= 1.0:
        raise UserError("--max-reject-share must be from 0 to 1.")
    check(source, warehouse, append, max_bytes)
    if stored := STORED.fullmatch(source):
        snapshot = find_snapshot(stored[1], warehouse)
        check_present(snapshot.columns, required, snapshot.source)
        return replace(snapshot, catalogue=None)
    with duck.opening(warehouse.scratch), opened(source, warehouse, max_bytes) as file:
        matched = match_columns(file.header()[0], mapping, file.label, required, any_of=TARGET_COLUMNS)
        content = duck.digest(file.sha256, file.is_generated, sorted(mapping.items()), sorted(units.items()))
        base = _base(append, file, content, warehouse) if append else None
        if base and content in (load_snapshot(part, warehouse).content for part in base.parts):
            return base
        code = [duck.code(name) for name in READING]
        identity = duck.digest(
            content, *([base.snapshot, append.statistics] if base and append else []), MISSING, *code
        )
        record = warehouse.table("raw", "snapshots", identity)
        with warehouse.lock("ingest"):
            if not is_stored(identity, warehouse):
                try:
                    snapshot = _read(file, identity, matched, units, max_reject_share, warehouse, base)
                except InputError:
                    for name in (("raw", "tracks"), ("staging", "typed_tracks")):
                        warehouse.discard(warehouse.table(*name, identity))
                    file.check_unchanged()  # if the file changed, that is the reported error
                    raise
                known_as = _catalogue(source, warehouse)
                snapshot = replace(snapshot, content=content, parts=(identity,), catalogue=known_as)
                if base and append:
                    snapshot = _joined(base, snapshot, append.statistics, warehouse)
                warehouse.write_rows(record, [asdict(snapshot)], SNAPSHOT)
        snapshot = load_snapshot(identity, warehouse)
        if not base:
            snapshot = replace(snapshot, source=file.label, catalogue=_catalogue(source, warehouse))
    _check_share(replace(snapshot, source=file.label), base, max_reject_share, warehouse)
    check_present(snapshot.columns, required, file.label)
    return snapshot


def check(source: str, warehouse: Warehouse, append: Append | None = None, max_bytes: int = MAX_SOURCE_BYTES) -> None:
    """Checks a source and its options before it is read. Args, Raises: as for `ingest`."""
    duck.memory_mib()
    if stored := STORED.fullmatch(source):
        if append:
            raise UserError(f"--source {source}: is a snapshot already; --append-to takes a file.")
        find_snapshot(stored[1], warehouse)
        return
    check_name(source, max_bytes)
    if append:
        find_snapshot(append.to, warehouse)


def _catalogue(source: str, warehouse: Warehouse) -> str:
    """Returns the catalogue of a source; a temporary file, such as a frame's, is known by its name alone."""
    local = local_file(source)
    return local[1] if local and local[0].is_relative_to(warehouse.scratch) else catalogue_of(source)


def copy_raw(
    connection: duckdb.DuckDBPyConnection,
    file: SourceFile,
    positions: Mapping[str, int | None],
    target: Path,
    warehouse: Warehouse,
) -> None:
    """Writes every row of a file as text to Parquet, in file order.

    Args: positions: of the expected columns in the file, from match_columns. target: the Parquet file to write.

    Raises: InputError: the file is not a regular CSV or Parquet file.
    """
    header, line_end = file.header()
    is_parquet = file.file_format == "parquet"
    if is_parquet:
        _check_case(header, positions, file.label)
    # CSV columns are named by position, so that no text of the file becomes part of a statement.
    named = [name if is_parquet else f"column{position}" for position, name in enumerate(header)]
    columns = {ours: None if at is None else duck.identifier(named[at]) for ours, at in positions.items()}
    select = duck.render(
        "raw/tracks", file_format="parquet" if is_parquet else "csv", width=len(header), columns=columns
    )
    # Read through a link, because DuckDB would expand * ? [ in the user's path.
    link = warehouse.temporary("source")
    values: dict[str, object] = {"path": str(link)}
    if not is_parquet:
        values |= {"compression": "gzip" if file.file_format == "gzip" else "none", "new_line": line_end}
        values["title_lines"] = file.title_lines
    link.symlink_to(file.path.resolve())
    try:
        if is_parquet:
            needed = [header[at] for at in positions.values() if at is not None]
            parquet.check(connection, link, needed, parquet.schema(file.path, file.label), file.label, file.max_bytes)
        connection.execute(duck.copy(select, target, file.path.stat().st_size // BYTES_OF_ROW), values)
    except duckdb.Error as error:
        if is_about_room(error):  # not an error of the file
            raise
        raise InputError(f"{file.label}: {_reason(error)}".replace(str(link), "the file")) from error
    finally:
        link.unlink()


def copy_typed(
    connection: duckdb.DuckDBPyConnection, target: Path, rows: int, units: Mapping[str, str], *, is_respelled: bool
) -> None:
    """Writes staging.typed_tracks from the raw.tracks of a connection. Args: rows: the number of rows of raw.tracks."""
    connection.execute(duck.copy(typed_select(units, is_respelled=is_respelled), target, rows))


def _base(append: Append, file: SourceFile, content: str, warehouse: Warehouse) -> Snapshot:
    """Returns the snapshot to append to: the named one, or its base if the named one is this same file appended."""
    base = find_snapshot(append.to, warehouse)
    if base.base and base.content == content:
        base = load_snapshot(base.base, warehouse)
    if file.is_generated != base.is_generated:
        kinds = ("generated", "real") if file.is_generated else ("real", "generated")
        raise UserError(f"{file.label}: {kinds[0]} tracks are not appended to {kinds[1]} ones ({base.source}).")
    return base


def _joined(base: Snapshot, own: Snapshot, statistics: Statistics, warehouse: Warehouse) -> Snapshot:
    """Returns the snapshot of a file and its base together. Args: own: the snapshot of the file alone."""
    first = load_snapshot(base.parts[0], warehouse).source
    added = own.source if not base.base else f"{len(base.parts)} files to {own.source}"
    return Snapshot(
        snapshot=own.snapshot,
        source=f"{first} + {added}",
        is_generated=base.is_generated,
        is_study_file=False,
        rows_read=base.rows_read + own.rows_read,
        blank_rows=base.blank_rows + own.blank_rows,
        rows_without_genre=base.rows_without_genre + own.rows_without_genre,
        rejected_rows=base.rejected_rows + own.rejected_rows,
        rejected_values=base.rejected_values + own.rejected_values,
        ingest_seconds=own.ingest_seconds,
        content=own.content,
        parts=(*base.parts, own.snapshot),
        statistics=statistics,
        columns=base.columns,
        scales=base.scales,
        notes=tuple(dict.fromkeys((*base.notes, *own.notes))),
        catalogue=base.catalogue,
    )


def _know_base(connection: duckdb.DuckDBPyConnection, base: Snapshot, warehouse: Warehouse) -> None:
    """Creates staging.base_ids and staging.base_genres of a snapshot in a connection."""
    attach(connection, base.snapshot, warehouse)
    for name in ("staging.base_ids", "staging.base_genres"):
        connection.execute(f"create table {name} as {duck.render(name.replace('.', '/'))}")


def _read(
    file: SourceFile,
    identity: str,
    matched: Matched,
    units: Mapping[str, str],
    max_share: float,
    warehouse: Warehouse,
    base: Snapshot | None,
) -> Snapshot:
    """Reads the rows of one file; row numbers continue after those of its base.

    Raises: InputError: the file is refused, or a larger share of its rows than `max_share`.
    """
    started = time.perf_counter()
    after = base.rows_read if base else 0
    if base:
        check_appended(file.label, matched.present, base, warehouse)
    tracks = warehouse.table("raw", "tracks", identity)
    typed = warehouse.table("staging", "typed_tracks", identity)
    with (
        duck.workspace(spill=warehouse.scratch) as connection,
        ThreadPoolExecutor(max_workers=2) as aside,
    ):
        with warehouse.replacing(tracks, flushed=False) as temporary:
            copy_raw(connection, file, matched.positions, temporary, warehouse)
        flushing = [aside.submit(flush, tracks)]
        if base:
            _know_base(connection, base, warehouse)
        define_raw_tracks(connection, tracks, after=after)
        rows_read = pq.read_metadata(tracks).num_rows
        with warehouse.replacing(typed, flushed=False) as temporary:
            is_respelled, about_genres = know_spellings(connection, is_appended=bool(base))
            copy_typed(connection, temporary, rows_read, units, is_respelled=is_respelled)
        flushing.append(aside.submit(flush, typed))
        duck.view(connection, "staging.typed_tracks", typed)
        rows_typed = pq.read_metadata(typed).num_rows
        fingerprint = aside.submit(_fingerprint, duck.cursor(connection)) if rows_read == STUDY_ROWS else None
        columns = with_values(connection, matched)
        has_genre = "music_genre" in columns
        rejected_rows, is_exact = _find_rejects(connection, matched, columns, typed, base, max_share)
        is_refused = rejected_rows > max_share * rows_typed
        found = doubts(look(connection, columns))
        final = warehouse.table("raw", "rejects", identity)
        rejected_values = _write_rejects(connection, file, after, final, warehouse, is_kept=not is_refused)
        if is_refused:
            file.check_unchanged()  # if the file changed, that is the reported error
            raise _too_many(file.label, rejected_rows, rows_typed, max_share, final, is_exact=is_exact)
        genreless = connection.execute("select count(*) from staging.typed_tracks where music_genre is null")
        [(rows_without_genre,)] = genreless.fetchall() if has_genre else [(0,)]
        for done in flushing:
            done.result()
    file.check_unchanged()
    if not rows_typed:
        raise InputError(f"{file.label}: has a header but no rows with content.")
    if base:
        check_like(file.label, columns, found, rows_typed, base)
    return Snapshot(
        snapshot=identity,
        source=file.label,
        is_generated=file.is_generated,
        is_study_file=fingerprint is not None and fingerprint.result() == STUDY_FINGERPRINT,
        rows_read=rows_read,
        blank_rows=rows_read - rows_typed,
        rows_without_genre=rows_without_genre,
        rejected_rows=rejected_rows,
        rejected_values=rejected_values,
        ingest_seconds=time.perf_counter() - started,
        columns=columns,
        scales=tuple(doubt.name for doubt in found),
        notes=tuple(
            filter(
                None, (file.title_note, matched.note, *about_genres, *about_columns(columns), *doubt_messages(found))
            )
        ),
    )


def _find_rejects(
    connection: duckdb.DuckDBPyConnection,
    matched: Matched,
    columns: Collection[str],
    typed: Path,
    base: Snapshot | None,
    max_share: float,
) -> tuple[int, bool]:
    """Creates raw.reasons, the rejects of a file. If its beginning alone has too many, the rest is not checked.

    Args: columns: expected columns that have values. typed: the file of staging.typed_tracks.

    Returns: the number of rejected rows, and whether all rows were checked.
    """
    rows = pq.read_metadata(typed).num_rows
    after = base.rows_read if base else 0
    has_genre = "music_genre" in columns
    beginning = int(2 * max_share * rows) + SOME
    rejected = 0
    for last in ([after + beginning] if beginning < rows else []) + [None]:
        part = "" if last is None else f"where row_number <= {last}"
        stored = f"select * from read_parquet({duck.literal(typed)}) {part}"
        connection.execute(f"create or replace view staging.typed_tracks as {stored}")
        find_bad_values(connection, matched.present, has_genre=has_genre, targets=set(columns) & {"popularity"})
        reasons = duck.render("raw/rejects", is_appended=bool(base), has_genre=has_genre)
        connection.execute(f"create or replace table raw.reasons as {reasons}")
        [(rejected,)] = connection.execute("select count(distinct row_number) from raw.reasons").fetchall()
        if rejected > max_share * rows:  # the first of them are enough
            some = "select distinct row_number from raw.reasons order by row_number limit ?"
            connection.execute(f"delete from raw.reasons where row_number not in ({some})", [SOME])
            break
    return int(rejected), last is None


def _write_rejects(
    connection: duckdb.DuckDBPyConnection,
    file: SourceFile,
    after: int,
    final: Path,
    warehouse: Warehouse,
    *,
    is_kept: bool,
) -> int:
    """Writes raw.rejects: the raw.reasons of a connection with their lines in the file, in bounded memory.

    Args: after: number of rows before the file's own. is_kept: whether the snapshot will be stored.

    Returns: the number of rejected values.
    """
    query = "select distinct row_number - ? as row from raw.reasons order by row"
    rows = connection.execute(query, [after]).fetchnumpy()["row"]
    if not len(rows):
        warehouse.write_rows(final, [], REJECTS)
        return 0
    connection.register("lines_found", pa.RecordBatchReader.from_batches(LINES, _batches(file.located(rows))))
    with warehouse.replacing(final, stored=is_kept) as temporary:
        statement = duck.copy(duck.render("raw/located_rejects"), temporary, len(rows))
        [(n_values,)] = connection.execute(statement, {"after": after}).fetchall()
    connection.unregister("lines_found")
    return int(n_values)


def _batches(lines: Iterator[tuple[int, int, str]]) -> Iterator[pa.RecordBatch]:
    while some := list(itertools.islice(lines, SOME)):
        yield pa.record_batch([pa.array(values) for values in zip(*some, strict=True)], schema=LINES)


def _check_case(header: list[str], positions: Mapping[str, int | None], label: str) -> None:
    """Raises: InputError: column names of a Parquet file differ only in case, which DuckDB cannot distinguish."""
    lowered = [name.lower() for name in header]
    for at in positions.values():
        if at is not None and lowered.count(lowered[at]) > 1:
            raise InputError(
                f"{label}: more than one column is called '{header[at]}', ignoring case. Rename one of them."
            )


def _fingerprint(connection: duckdb.DuckDBPyConnection) -> str:
    return duck.digest(connection.execute(duck.render("raw/fingerprint")).fetchall()[0][0])


def _check_share(snapshot: Snapshot, base: Snapshot | None, max_share: float, warehouse: Warehouse) -> None:
    """Raises: InputError: too large a share of the file's own rows, without those of its base, is rejected."""
    rows = snapshot.rows_read - snapshot.blank_rows - (base.rows_read - base.blank_rows if base else 0)
    rejected = snapshot.rejected_rows - (base.rejected_rows if base else 0)
    if rejected <= max_share * rows:
        return
    path = warehouse.here(warehouse.table("raw", "rejects", snapshot.snapshot))
    raise _too_many(snapshot.source, rejected, rows, max_share, path)


def _too_many(
    label: str, rejected: int, rows: int, max_share: float, path: Path, *, is_exact: bool = True
) -> InputError:
    """Returns the error. Args: path: file of (the first) rejects. is_exact: whether `rejected` counts all of them."""
    kept = pl.scan_parquet(path, glob=False)
    first = kept.head(3).collect().to_dicts()
    examples = "; ".join(f"line {reject['line']}, {reject['column_name']}: {reject['error']}" for reject in first)
    n_kept = kept.select(pl.col("row_number").n_unique()).collect().item()
    which = "All of them are" if n_kept == rejected and is_exact else f"The first {n_kept:,} rows are"
    return InputError(
        f"{label}: {'' if is_exact else 'at least '}{rejected:,} of {rows:,} rows have bad values, more than the "
        f"{max_share:.1%} that --max-reject-share allows. The first: {examples}. "
        f"A missing value ({MISSING_WORDING}) of an audio feature is none of them. {which} in {path}."
    )


def _reason(error: duckdb.Error) -> str:
    """Returns what is wrong with the file, in one line instead of DuckDB's many."""
    text = str(error)
    line = re.search(r"CSV Error on Line: (\d+)", text)
    where = f"line {line[1]}: " if line else ""
    if columns := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text):
        return f"{where}{columns[2]} values where the header has {columns[1]} columns. Is the file cut off or ragged?"
    if "invalid state" in text or ("new_line" in text and not where):
        return "is not a regular CSV file (mixed line ends, or quotes within values that are not doubled)."
    for sign, is_located, reason in REASONS:
        if sign in text.lower():
            return where * is_located + reason
    return f"{where}cannot be read ({text.splitlines()[0]})."

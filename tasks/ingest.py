"""From a source file to a snapshot: raw.tracks as read, raw.rejects with reasons, and what was counted."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import duck
from tasks.columns import MEASURED, NUMERIC, match_columns
from tasks.errors import InputError, UserError
from tasks.sources import SourceFile, opened
from tasks.warehouse import Warehouse, flush

# What sql/raw/fingerprint.sql makes of the study's own file: only then do its published figures apply.
STUDY_ROWS = 50_005
STUDY_FINGERPRINT = "2b63882f43a25ea5"

REJECTS = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),
        pa.field("column_name", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("csv_line", pa.string()),
        pa.field("row_number", pa.int64(), nullable=False),
    ]
)
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
    ]
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One ingested file; its columns as in raw.snapshots."""

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


def ingest(source: str, mapping: Mapping[str, str], max_reject_share: float, warehouse: Warehouse) -> Snapshot:
    """Read `source` into the warehouse, unless a file of the same content was read the same way before.

    Args: source: path, URL or `sample[:ROWS]`. mapping: our column names to the file's. max_reject_share: of the rows
        with content, 0 to 1; more rejects than that stop the run.
    Raises: InputError: the file is refused, or too many of its rows are.
    """
    if not 0.0 <= max_reject_share <= 1.0:
        raise UserError("--max-reject-share must be from 0 to 1.")
    with duck.opening(warehouse.root / "tmp"), opened(source, warehouse) as file:
        code = [
            duck.source(name) for name in ("raw/tracks", "raw/numbered_tracks", "staging/typed_tracks", "raw/rejects")
        ]
        identity = duck.digest(file.sha256, file.is_generated, sorted(mapping.items()), *code)
        record = warehouse.table("raw", "snapshots", identity)
        with warehouse.lock("ingest"):
            if record not in warehouse.files("raw", "snapshots"):
                snapshot = _read(file, identity, mapping, warehouse)
                warehouse.write_rows(record, [asdict(snapshot)], SNAPSHOT)
        snapshot = replace(load_snapshot(identity, warehouse), source=file.label)
    _check_share(snapshot, max_reject_share, warehouse)
    return snapshot


def load_snapshot(identity: str, warehouse: Warehouse) -> Snapshot:
    """The record of an ingested file."""
    return Snapshot(**pq.read_table(warehouse.here(warehouse.table("raw", "snapshots", identity))).to_pylist()[0])


def attach(
    connection: duckdb.DuckDBPyConnection, snapshot: str, warehouse: Warehouse, *, is_published: bool = False
) -> None:
    """Make raw.tracks, raw.rejects and staging.typed_tracks of a snapshot visible to `connection`.

    Args: is_published: by views that other machines read, too.
    """
    names = (("raw", "tracks"), ("raw", "rejects"), ("staging", "typed_tracks"))
    files = tracks, rejects, typed = [warehouse.table(*name, snapshot) for name in names]
    warehouse.fetch(files)
    named = warehouse.location if is_published else str
    define_raw_tracks(connection, tracks, named(tracks))
    duck.view(connection, "raw.rejects", named(rejects))
    duck.view(connection, "staging.typed_tracks", named(typed))


def copy_raw(
    connection: duckdb.DuckDBPyConnection,
    file: SourceFile,
    positions: Mapping[str, int | None],
    target: Path,
    warehouse: Warehouse,
) -> None:
    """Write every row of a file as text, in its order. Args: positions: as match_columns says.

    Raises: InputError: the file is not a regular CSV or Parquet file.
    """
    header, line_end = file.header()
    is_parquet = file.file_format == "parquet"
    if is_parquet:
        _check_case(header, positions, file.label)
    # A CSV's columns are named by position, so that no text of the file becomes part of a statement.
    named = [name if is_parquet else f"column{position}" for position, name in enumerate(header)]
    columns = {ours: None if at is None else duck.identifier(named[at]) for ours, at in positions.items()}
    select = duck.render(
        "raw/tracks", file_format="parquet" if is_parquet else "csv", width=len(header), columns=columns
    )
    # Read by a name of ours: DuckDB would expand * ? [ in the user's.
    link = warehouse.temporary("source")
    values: dict[str, object] = {"path": str(link)}
    if not is_parquet:
        values |= {"compression": "gzip" if file.file_format == "gzip" else "none", "new_line": line_end}
    link.symlink_to(file.path.resolve())
    try:
        connection.execute(duck.copy(select, target), values)
    except duckdb.Error as error:
        raise InputError(f"{file.label}: {_reason(error)}".replace(str(link), "the file")) from error
    finally:
        link.unlink()


def copy_typed(connection: duckdb.DuckDBPyConnection, target: Path) -> None:
    """Write staging.typed_tracks of the raw.tracks that `connection` sees."""
    connection.execute(duck.copy(duck.render("staging/typed_tracks", numeric_columns=NUMERIC), target))


def define_raw_tracks(connection: duckdb.DuckDBPyConnection, path: Path, named: str | None = None) -> None:
    """Make the rows that `copy_raw` wrote visible as raw.tracks. Args: named: what the view calls the file."""
    has_instance_id = "instance_id" in pq.read_schema(path).names
    numbered = duck.render("raw/numbered_tracks", path=duck.literal(named or path), has_instance_id=has_instance_id)
    connection.execute(f"create or replace view raw.tracks as {numbered}")


def _read(file: SourceFile, identity: str, mapping: Mapping[str, str], warehouse: Warehouse) -> Snapshot:
    started = time.perf_counter()
    columns = match_columns(file.header()[0], mapping, file.label)
    tracks = warehouse.table("raw", "tracks", identity)
    typed = warehouse.table("staging", "typed_tracks", identity)
    with (
        duck.workspace(spill=warehouse.root / "tmp") as connection,
        ThreadPoolExecutor(max_workers=2) as aside,
    ):
        with warehouse.replacing(tracks, flushed=False) as temporary:
            copy_raw(connection, file, columns, temporary, warehouse)
        flushing = [aside.submit(flush, tracks)]
        define_raw_tracks(connection, tracks)
        with warehouse.replacing(typed, flushed=False) as temporary:
            copy_typed(connection, temporary)
        flushing.append(aside.submit(flush, typed))
        duck.view(connection, "staging.typed_tracks", typed)
        rows_read, rows_typed = (pq.read_metadata(path).num_rows for path in (tracks, typed))
        fingerprint = aside.submit(_fingerprint, duck.cursor(connection)) if rows_read == STUDY_ROWS else None
        reasons = connection.execute(duck.render("raw/rejects", measured_features=MEASURED)).fetchall()
        lines = file.locate([row for row, _, _ in reasons]) if reasons else {}
        rows: list[dict[str, object]] = []
        for row, column, reason in reasons:
            line, text = lines.get(row, (row + 1, None))
            rows.append({"line": line, "column_name": column, "error": reason, "csv_line": text, "row_number": row})
        warehouse.write_rows(warehouse.table("raw", "rejects", identity), rows, REJECTS)
        genreless = connection.execute("select count(*) from staging.typed_tracks where music_genre is null")
        [(rows_without_genre,)] = genreless.fetchall()
        for done in flushing:
            done.result()
    if not rows_typed:
        raise InputError(f"{file.label}: has a header but no rows with content.")
    return Snapshot(
        snapshot=identity,
        source=file.label,
        is_generated=file.is_generated,
        is_study_file=fingerprint is not None and fingerprint.result() == STUDY_FINGERPRINT,
        rows_read=rows_read,
        blank_rows=rows_read - rows_typed,
        rows_without_genre=rows_without_genre,
        rejected_rows=len({row for row, _, _ in reasons}),
        rejected_values=len(reasons),
        ingest_seconds=time.perf_counter() - started,
    )


def _check_case(header: list[str], positions: Mapping[str, int | None], label: str) -> None:
    """Refuse what DuckDB could not tell apart in a Parquet file: columns that differ only in case."""
    lowered = [name.lower() for name in header]
    for at in positions.values():
        if at is not None and lowered.count(lowered[at]) > 1:
            raise InputError(
                f"{label}: more than one column is called '{header[at]}', but for case. Rename one of them."
            )


def _fingerprint(connection: duckdb.DuckDBPyConnection) -> str:
    return duck.digest(connection.execute(duck.render("raw/fingerprint")).fetchall()[0][0])


def _check_share(snapshot: Snapshot, max_share: float, warehouse: Warehouse) -> None:
    rows = snapshot.rows_read - snapshot.blank_rows
    if snapshot.rejected_rows <= max_share * rows:
        return
    path = warehouse.here(warehouse.table("raw", "rejects", snapshot.snapshot))
    first = pq.read_table(path).slice(0, 3).to_pylist()
    examples = "; ".join(f"line {reject['line']}, {reject['column_name']}: {reject['error']}" for reject in first)
    raise InputError(
        f"{snapshot.source}: {snapshot.rejected_rows:,} of {rows:,} rows have bad values, more than the "
        f"{max_share:.1%} that --max-reject-share allows. The first: {examples}. All of them are in {path}."
    )


def _reason(error: duckdb.Error) -> str:
    """What is wrong with the file, from DuckDB's many lines."""
    text = str(error)
    line = re.search(r"CSV Error on Line: (\d+)", text)
    where = f"line {line[1]}: " if line else ""
    if columns := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text):
        return f"{where}{columns[2]} values where the header has {columns[1]} columns. Is the file cut off or ragged?"
    if "gzip" in text.lower():
        return "is a damaged gzip file, or one with something after its end. Compress it again."
    if "unterminated quote" in text:
        return f"{where}a quoted value does not end."
    if "unicode" in text.lower() or "utf-8" in text.lower():
        return f"{where}is not in UTF-8. Save the file as UTF-8."
    if "invalid state" in text or ("new_line" in text and not where):
        return "is not a regular CSV file (mixed line ends, or quotes within values that are not doubled)."
    return f"{where}cannot be read ({text.splitlines()[0]})."

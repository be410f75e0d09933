"""Batch prediction of a file of tracks.

DuckDB reads the file, the models predict one batch after the other, and the complete output is renamed into place.
"""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from tasks.compute.progress import counted_progress
from tasks.errors import InputError, UserError
from tasks.ingest.columns import AUDIO_COLUMNS, MIN_FEATURES, MISSING_WORDING, listed, match_columns
from tasks.ingest.contents import with_values
from tasks.ingest.read import SOME, copy_raw, copy_typed
from tasks.ingest.snapshots import define_raw_tracks
from tasks.ingest.sources import SourceFile, opened
from tasks.ingest.units import doubt_messages, doubts, look, unlike_training
from tasks.prediction.candidates import lineage
from tasks.prediction.champions import Champion, predictors
from tasks.prediction.predictor import PREDICTED, Predictor
from tasks.prediction.preparation import find_rejects
from tasks.specs import GENERATED, MAX_SOURCE_BYTES
from tasks.storage import duck
from tasks.storage.outputs import out_file, replacing_beside, stem_of
from tasks.storage.warehouse import Warehouse
from tasks.training import drift
from tasks.training.drift import Drift

BATCH_ROWS = 100_000
PART_ROWS = 500_000  # rows that are searched for rejects at a time
UNREAD = ("popularity", "music_genre", "obtained_date")  # a row with only these and an id is blank
REJECT_COLUMNS = ("line", "column_name", "error", "csv_line", "row_number")
SUFFIXES = (".parquet", ".csv", ".csv.gz")
EXAMPLES = 3  # bad values that a message quotes


@dataclass(frozen=True, slots=True)
class PredictionOutcome:
    """The outcome of predicting a file; rows_read = rows_predicted + rejected_rows + blank_rows."""

    out: Path
    rejects: Path | None  # file of the rows left out; None: no row was rejected or blank
    examples: str  # the first bad values: line, column and reason
    rows_read: int
    rows_predicted: int
    rejected_rows: int
    blank_rows: int
    filled_rows: int
    unlike_rows: int
    is_generated_model: bool
    missing_tasks: tuple[str, ...]  # tasks that no model predicts yet
    models: dict[str, str]  # by task
    notes: tuple[str, ...]  # on renamed and missing columns, columns that seem to be in another unit, and drift
    drifts: tuple[Drift, ...]  # from the models' training rows; several if they were trained on different rows
    seconds: float

    @property
    def summary(self) -> list[str]:
        """The outcome as lines of text for the user."""
        counts = [f"{self.rows_predicted:,} of {self.rows_read:,} rows predicted in {self.seconds:.1f} s"]
        counts += [f"{self.rejected_rows:,} rejected"] if self.rejected_rows else []
        counts += [f"{self.blank_rows:,} blank"] if self.blank_rows else []
        counts += [f"{self.filled_rows:,} with filled values"] if self.filled_rows else []
        counts += [f"{self.unlike_rows:,} unlike anything in training"] if self.unlike_rows else []
        lines = [", ".join(counts), *self.notes, *(f"{task} by {model}" for task, model in self.models.items())]
        lines += map(_not_predicted, self.missing_tasks)
        if self.is_generated_model:
            lines.append(GENERATED)
        lines.append(f"written: {self.out}")
        if self.rejected_rows:
            rows = "1 row" if self.rejected_rows == 1 else f"{self.rejected_rows:,} rows"
            lines.append(f"not predicted: {rows} with bad values. The first: {self.examples}.")
        lines += [f"left out, with reasons: {self.rejects}"] if self.rejects else []
        return lines


def predict_file(
    tracks: str,
    out: str | None,
    warehouse: Warehouse,
    model: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    units: Mapping[str, str] | None = None,
    min_features: int = MIN_FEATURES,
    max_bytes: int = MAX_SOURCE_BYTES,
) -> PredictionOutcome:
    """Predicts genre and popularity of every track of a file with the champions of `warehouse`.

    Rows with bad values are left out; a file beside the predictions lists them.

    Args:
        tracks: path, URL or sample[:ROWS]; any of the 12 audio features may be missing.
        out: path ending in .parquet, .csv or .csv.gz; by default the name of `tracks` with .predictions.parquet, in the
            current directory.
        warehouse: has the champions.
        model: name of a model that replaces the champion of each task that it predicts.
        columns: our column names to the file's.
        strict: refuse the file if any row is rejected.
        units: units of the columns that are in another unit than the project's.
        min_features: number of audio features that the file must have.
        max_bytes: largest size of the file.

    Raises: UserError: there is no model, or the input is refused; InputError: all rows with content are rejected, or
        any row if `strict`.
    """
    started = time.perf_counter()
    target = output_path(tracks, out)
    with _predicting(tracks, warehouse, model, columns or {}, units or {}, min_features, max_bytes) as ready:
        read = ready.read
        if not read.rows:
            raise InputError(f"{ready.file.label}: has a header but no rows.")
        is_refused = read.is_refused(strict=strict)
        rejects = _write_rejects(read, ready.file, target, SOME if is_refused else None)
        if is_refused:
            which = "All of them" if read.rejected_rows <= SOME else f"The first {SOME:,}"
            raise InputError(ready.refusal(f" {which} are in {rejects}."))
        predicted = filled = unlike = 0
        examples, drifts = ready.examples(), ready.drifts(warehouse)
        notes = [*ready.notes(), *dict.fromkeys(filter(None, (one.warning for one in drifts)))]
        with writing(target, PREDICTED) as write, counted_progress("rows", read.rows) as show:
            for batch in ready.batches():
                write(batch)
                predicted += batch.num_rows
                filled += int((batch["n_filled"].to_numpy() > 0).sum())
                unlike += int(batch["is_unlike_training"].to_numpy().sum())
                show(predicted)
    chosen = ready.chosen
    catalogue = next(iter(chosen.values())).candidate.catalogue
    notes += filter(None, [drift.store_predictions(drifts, catalogue, warehouse)])
    return PredictionOutcome(
        out=target,
        rejects=rejects,
        examples=examples,
        rows_read=read.rows,
        rows_predicted=predicted,
        rejected_rows=read.rejected_rows,
        blank_rows=read.blank_rows,
        filled_rows=filled,
        unlike_rows=unlike,
        is_generated_model=any(one.candidate.is_generated for one in chosen.values()),
        missing_tasks=missing_tasks(chosen),
        models={task: one.candidate.title for task, one in sorted(chosen.items())},
        notes=tuple(notes),
        drifts=tuple(drifts),
        seconds=time.perf_counter() - started,
    )


def predict_rows(
    tracks: str,
    warehouse: Warehouse,
    model: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    units: Mapping[str, str] | None = None,
    min_features: int = MIN_FEATURES,
    max_bytes: int = MAX_SOURCE_BYTES,
) -> tuple[pl.DataFrame, list[str]]:
    """Predicts like `predict_file`, in memory. Args, Raises: as there.

    Returns: a row for each row of the tracks, see sql/predict/every_row.sql; and messages for the user.
    """
    with _predicting(tracks, warehouse, model, columns or {}, units or {}, min_features, max_bytes) as ready:
        read = ready.read
        if read.is_refused(strict=strict):
            raise InputError(ready.refusal())
        read.connection.register("predicted", pa.concat_tables([PREDICTED.empty_table(), *ready.batches()]))
        rows = read.connection.sql(duck.render("predict/every_row"), params={"rows": read.rows}).pl()
        return rows, [*ready.notes(), *map(_not_predicted, missing_tasks(ready.chosen))]


@dataclass(frozen=True, slots=True)
class _Predicting:
    """Tracks that were read, and the models that predict them, which are loaded meanwhile."""

    file: SourceFile
    read: ReadTracks
    chosen: dict[str, Champion]  # by task
    loading: Future[Predictor]

    def notes(self) -> list[str]:
        """Returns messages on how the tracks were read, and on columns on another scale than a model's training rows.

        Each message is there once.
        """
        ranges = [model.fitted.ranges for model in self.loading.result().models.values()]
        lines = [unlike_training(self.read.connection, one, self.read.doubted) for one in ranges]
        return [*self.read.notes, *dict.fromkeys(filter(None, lines))]

    def drifts(self, warehouse: Warehouse) -> list[Drift]:
        """Compares the tracks with the training rows of each model; models of the same rows are one comparison."""
        found: dict[tuple[str, ...], Drift] = {}
        for champion in self.chosen.values():
            one = champion.candidate
            tables = lineage(one.feature_version, warehouse)
            rows = tuple(tables[name].version for name in drift.TRAINING_TABLES)
            if rows not in found:
                found[rows] = drift.measure_predictions(
                    self.read.connection,
                    self.file.label,
                    tables,
                    one.feature_version,
                    warehouse,
                    is_generated=one.is_generated,
                )
        return list(found.values())

    def batches(self) -> Iterator[pa.Table]:
        """Yields predictions batch by batch; while one batch is predicted, DuckDB prepares the next on one core."""
        predictor, read = self.loading.result(), self.read
        starts = range(1, read.rows + 1, BATCH_ROWS)
        with ThreadPoolExecutor(max_workers=1) as background:

            def prepared(first: int) -> Future[dict[str, pa.Table]]:
                return background.submit(predictor.prepare, read.connection, first, first + BATCH_ROWS - 1)

            upcoming = prepared(1)
            for following in [*starts[1:], None]:
                rows = upcoming.result()
                if following is not None:
                    upcoming = prepared(following)
                yield predictor.predict(rows)

    def examples(self) -> str:
        """Returns the first bad values as text: where each is, its column, and what is wrong."""
        select = "select row_number, column_name, error from raw.rejects where not is_blank order by all limit $most"
        found = self.read.connection.execute(select, {"most": EXAMPLES}).fetchall()
        lines = {row: line for row, line, _ in self.file.located(sorted({row for row, _, _ in found}))}
        place = "row" if self.file.file_format == "parquet" else "line"
        return "; ".join(f"{place} {lines.get(row, row + 1)}, {column}: {error}" for row, column, error in found)

    def refusal(self, where: str = "") -> str:
        """Returns why no track is predicted. Args: where: a sentence on where the rejected rows are listed."""
        n, rows = self.read.rejected_rows, self.read.rows_with_content
        why = "so none can be predicted" if n == rows else "and --strict allows none"
        return (
            f"{self.file.label}: {n:,} of {rows:,} rows {'has' if n == 1 else 'have'} bad values, {why}. The first: "
            f"{self.examples()}. A missing value ({MISSING_WORDING}) is none of them.{where} Correct these rows"
            f"{'' if n == rows else ', or leave out --strict to predict the other rows'}."
        )


@contextmanager
def _predicting(
    tracks: str,
    warehouse: Warehouse,
    model: str | None,
    columns: Mapping[str, str],
    units: Mapping[str, str],
    min_features: int,
    max_bytes: int,
) -> Iterator[_Predicting]:
    """Reads tracks, and meanwhile loads the models. Args, Raises: as for `predict_file`."""
    threads = os.cpu_count() or 1
    warehouse.sweep()
    with (
        warehouse.in_use(reads_only=True),
        opened(tracks, warehouse, max_bytes) as file,
        ThreadPoolExecutor(max_workers=1) as background,
    ):
        chosen = predictors(warehouse, model, threads)
        loading = background.submit(Predictor.load, chosen, warehouse, threads)
        with reading(file, columns, warehouse, units, min_features) as read:
            yield _Predicting(file, read, chosen, loading)


def missing_tasks(chosen: Collection[str]) -> tuple[str, ...]:
    """Returns the tasks that no model predicts. Args: chosen: those that have one."""
    return tuple(task for task in ("genre", "popularity") if task not in chosen)


def _not_predicted(task: str) -> str:
    return f"{task}: not predicted, no model for it is stored"


def output_path(tracks: str, out: str | None) -> Path:
    """Returns the path of the predictions. Raises: UserError: it cannot be written, or is the input itself."""
    target = out_file(out or f"{stem_of(tracks) or 'tracks'}.predictions.parquet")
    if not target.name.endswith(SUFFIXES):
        raise UserError(f"--out {target.name}: its name must end in one of {', '.join(SUFFIXES)}.")
    if target.resolve() == Path(tracks).expanduser().resolve():
        raise UserError(f"--out {target}: is the file of the tracks itself.")
    return target


@dataclass(frozen=True, slots=True)
class ReadTracks:
    """A file's rows in a DuckDB workspace: staging.typed_tracks and raw.rejects."""

    connection: duckdb.DuckDBPyConnection
    rows: int
    blank_rows: int
    rejected_rows: int
    notes: tuple[str, ...]
    doubted: tuple[str, ...]  # columns that seem to be in another unit

    @property
    def rows_with_content(self) -> int:
        """The rows that are not blank."""
        return self.rows - self.blank_rows

    def is_refused(self, *, strict: bool) -> bool:
        """Whether none of the rows is to be predicted: all with content are rejected, or any is and `strict` is on."""
        return self.rejected_rows > 0 and (strict or self.rejected_rows == self.rows_with_content)


@contextmanager
def reading(
    file: SourceFile,
    mapping: Mapping[str, str],
    warehouse: Warehouse,
    units: Mapping[str, str] = MappingProxyType({}),
    min_features: int = MIN_FEATURES,
) -> Iterator[ReadTracks]:
    """Reads a file as ingest does, but requires no column, into temporary files that are removed afterwards.

    Args: mapping: our column names to the file's; of those that predictions do not read, the file need not have any.

    Raises: InputError: the file has fewer audio features than `min_features`.
    """
    header, _ = file.header()
    read = {ours: theirs for ours, theirs in mapping.items() if ours not in UNREAD}
    matched = match_columns(header, read, file.label)
    matched = replace(matched, positions=matched.positions | dict.fromkeys(UNREAD))
    check_features(matched.present, min_features, file.label, header)
    folder = warehouse.temporary("predict")
    folder.mkdir()
    raw, typed = folder / "raw", folder / "typed"
    try:
        with duck.workspace(spill=warehouse.scratch) as connection:
            copy_raw(connection, file, matched.positions, raw, warehouse)
            define_raw_tracks(connection, raw)
            rows = pq.read_metadata(raw).num_rows
            copy_typed(connection, typed, rows, units, is_respelled=False)
            duck.view(connection, "staging.typed_tracks", typed)
            with_content = pq.read_metadata(typed).num_rows
            rejected = _find_rejects(connection, matched.present, rows, has_blank_rows=rows > with_content)
            columns = with_values(connection, matched)
            absent = [name for name in AUDIO_COLUMNS if name not in columns] if with_content else []
            filled = f"audio features without a value, filled for every row: {', '.join(absent)}" if absent else None
            found = doubts(look(connection, columns))
            notes = (file.title_note, matched.note, filled, *doubt_messages(found))
            yield ReadTracks(
                connection,
                rows,
                rows - with_content,
                rejected,
                tuple(filter(None, notes)),
                tuple(doubt.seen.column for doubt in found),
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_features(present: Collection[str], least: int, label: str, header: list[str]) -> None:
    """Checks that a file has enough audio features.

    Args: present: columns of the file, by our names. least: number of audio features needed. header: the file's own
        column names.

    Raises: InputError: the file has fewer; UserError: `least` is out of range.
    """
    absent = [name for name in AUDIO_COLUMNS if name not in present]
    if not 1 <= least <= len(AUDIO_COLUMNS):
        raise UserError(f"--min-features {least}: must be from 1 to {len(AUDIO_COLUMNS)}.")
    n = len(AUDIO_COLUMNS) - len(absent)
    if n < least:
        raise InputError(
            f"{label}: {n} of the {len(AUDIO_COLUMNS)} audio features {'is' if n == 1 else 'are'} there; "
            f"{least} are needed. Not there: {', '.join(absent)}. Found: {listed(header)}. Name other spellings with "
            "--columns our_name=their_name, or ask for fewer with --min-features N: what is not there is filled."
        )


def _find_rejects(
    connection: duckdb.DuckDBPyConnection, present: Collection[str], rows: int, *, has_blank_rows: bool
) -> int:
    """Creates raw.rejects as `find_rejects` does, one part of a long file at a time, and returns the rows rejected."""
    if rows <= PART_ROWS:
        return find_rejects(connection, present, has_blank_rows=has_blank_rows)
    names = (("raw", "tracks"), ("staging", "typed_tracks"))
    for schema, name in names:
        connection.execute(f"alter view {schema}.{name} rename to all_{name}")
    rejected = 0
    for first in range(1, rows + 1, PART_ROWS):
        for schema, name in names:
            part = f"select * from {schema}.all_{name} where row_number between {first} and {first + PART_ROWS - 1}"
            connection.execute(f"create or replace view {schema}.{name} as {part}")
        rejected += find_rejects(connection, present, has_blank_rows=has_blank_rows)
        made = "create table raw.all_rejects as" if first == 1 else "insert into raw.all_rejects"
        connection.execute(f"{made} select * from raw.rejects")
    for schema, name in names:
        connection.execute(f"drop view {schema}.{name}")
        connection.execute(f"alter view {schema}.all_{name} rename to {name}")
    connection.execute("drop table raw.rejects")
    connection.execute("alter table raw.all_rejects rename to rejects")
    return rejected


def _write_rejects(read: ReadTracks, file: SourceFile, target: Path, most: int | None) -> Path | None:
    """Writes the rows left out to a CSV file beside the predictions: line, column and reason.

    Args: most: how many rows to write, the first rejected ones before the first blank ones; None: all.

    Returns: the file, or None if no row is left out.
    """
    suffix = next(suffix for suffix in SUFFIXES[::-1] if target.name.endswith(suffix))
    path = target.with_name(target.name.removesuffix(suffix) + ".rejects.csv")
    path.unlink(missing_ok=True)  # of an earlier run
    if not read.rejected_rows + read.blank_rows:
        return None
    query = "from raw.rejects order by row_number, column_name"
    if most:
        first_rows = f"select distinct is_blank, row_number from raw.rejects order by all limit {most}"
        query = f"from raw.rejects where (is_blank, row_number) in ({first_rows}) order by row_number, column_name"
    rows = _stream(read.connection, f"select distinct row_number from ({query}) order by 1")
    located = file.located(row for (row,) in rows)
    with replacing_beside(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        lines = csv.writer(handle, lineterminator="\n")
        lines.writerow(REJECT_COLUMNS)
        here, line, text = 0, 0, ""
        for row, column, error in _stream(read.connection, f"select row_number, column_name, error {query}"):
            if row != here:
                here, line, text = next(located, (row, row + 1, ""))
            lines.writerow([line, column, error, text, row])
    return path


def _stream(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    """Yields a query's rows, fetched in portions."""
    found = duck.cursor(connection).execute(query)
    while rows := found.fetchmany(10_000):
        yield from rows


@contextmanager
def writing(target: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Writes tables one after the other to `target`, Parquet or CSV by its suffix; it appears only when complete.

    Yields: a function that writes one table; in Parquet each table is a row group.
    """
    with replacing_beside(target) as temporary:
        if target.suffix == ".parquet":
            texts = [field.name for field in schema if pa.types.is_string(field.type)]
            with pq.ParquetWriter(temporary, schema, compression="snappy", use_dictionary=texts) as parquet:
                yield parquet.write_table
        else:
            opener: Any = gzip.open if target.suffix == ".gz" else open
            with opener(temporary, "wb") as file, pc.CSVWriter(file, schema) as lines:
                yield lines.write_table

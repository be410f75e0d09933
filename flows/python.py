"""The project from Python: predict tracks, ask for published results, and run benchmarks, with frames.

    from flows.python import benchmark, leaderboard, predict, query

Tracks are a frame with the Arrow interface (polars, pandas 2.2 or newer, pyarrow, DuckDB), or a path or URL as for the
commands. Results are frames of polars. Parameters are those of the commands, and so are the messages of UserError.
Nothing here needs Prefect or its server.
"""

from __future__ import annotations

import functools
import inspect
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import duckdb
import polars as pl
from pydantic import TypeAdapter, ValidationError

from flows import cli
from flows.holding import tell_of_upkeep
from flows.parameters import (
    SOURCE_BYTES,
    BudgetName,
    Bytes,
    Columns,
    Count,
    Features,
    FeatureSets,
    FoldCount,
    FoldSeed,
    Mebibytes,
    Models,
    Plugins,
    ProtocolNames,
    Seconds,
    Seeds,
    Separators,
    Share,
    StoredModelName,
    Units,
    WarehouseName,
)
from flows.preparing import Preparation
from tasks.compute.processes import share_of_cores, start_server
from tasks.compute.progress import CellProgress
from tasks.errors import UserError, one_line
from tasks.ingest.columns import MIN_FEATURES, parse_mapping
from tasks.ingest.frames import as_source
from tasks.ingest.units import parse_units
from tasks.orchestration.steps import RunOutcome, Steps, carry_out
from tasks.plugins import load_plugins
from tasks.prediction import champions
from tasks.prediction.batch import predict_rows
from tasks.reporting.report import write_report
from tasks.results import query as results
from tasks.results.publish import publish
from tasks.specs import GENERATED
from tasks.storage.warehouse import Warehouse
from tasks.training.jobs import Job
from tasks.training.local import Limits, train_cells
from tasks.training.request import Request
from tasks.training.runs import CellOutcome

__all__ = ["RunOutcome", "UserError", "benchmark", "leaderboard", "predict", "query"]
LINE_SECONDS = 10.0  # between two lines on the progress, where no bar can be drawn
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Tell = Callable[[str], None]


def _checked(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorates a function: arguments are checked as options of commands are, and a refusal is a UserError."""
    signature = inspect.signature(function, eval_str=True)
    types = {name: TypeAdapter(parameter.annotation) for name, parameter in signature.parameters.items()}

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        load_plugins()  # before names that they may add are checked
        given = signature.bind(*args, **kwargs)
        for name, value in given.arguments.items():
            try:
                given.arguments[name] = types[name].validate_python(value)
            except ValidationError as error:
                raise UserError(f"{name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
        return function(*given.args, **given.kwargs)

    return call


@_checked
def predict(
    tracks: Any,
    *,
    plugins: Plugins = None,
    warehouse: WarehouseName | Path | None = None,
    model: StoredModelName | None = None,
    columns: Columns | Mapping[str, str] = "",
    strict: bool = False,
    units: Units | Mapping[str, str] = "",
    min_features: Features = MIN_FEATURES,
    max_source_bytes: Bytes = SOURCE_BYTES,
) -> pl.DataFrame:
    """Predicts the genre and popularity of tracks with the champions, with their uncertainty.

    Remarks on the tracks, such as a column that seems to be in another unit, are warnings.

    Args:
        tracks: a frame, path or URL. Any of the audio features may be missing.
        plugins: Python files whose models, feature sets and protocols the champions need (docs/plugins.md), besides
            those of $MUSIC_PLUGINS.
        warehouse: where the models are, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.
        model: predict with this model instead of the champion of each task that it predicts.
        columns: the tracks' own column names by ours, or as text: as `--columns` of the commands.
        strict: refuse the tracks if any row has bad values; without it, the other rows are predicted.
        units: units of the columns that are in another unit than ours, or as text: as `--units`.
        min_features: refuse tracks with fewer of the 12 audio features.
        max_source_bytes: refuse a larger source, as it is or unpacked: bytes, or a size such as 20GB.

    Returns: a row for each row of the tracks, in their order, with the columns of `flows.predict` (docs/predict.md)
        and `problem`: why the row is not predicted, or null.

    Raises: UserError: no model is stored, or the tracks are refused, as by `flows.predict`.
    """
    opened = Warehouse.to_read(warehouse, advice=champions.TRAIN)
    with as_source(tracks, opened) as source:
        predicted, notes = predict_rows(
            source,
            opened,
            model,
            parse_mapping(columns),
            strict,
            parse_units(units),
            min_features,
            max_source_bytes,
        )
    for note in notes:
        warnings.warn(one_line(note), stacklevel=3)  # of the caller's line, above the decorator
    return predicted


@_checked
def query(sql: str, *, warehouse: WarehouseName | Path | None = None) -> pl.DataFrame:
    """Asks one question in SQL about the published results: read only, and only files of the warehouse.

    Args:
        sql: one SELECT, such as "from results.champions". docs/tables.md lists the tables.
        warehouse: where data is kept, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.

    Raises: UserError: nothing is published, it is another statement, or the SELECT is not valid.
    """
    try:
        return results.frame(sql, Warehouse.to_read(warehouse))
    except duckdb.Error as error:
        raise UserError(str(error)) from error


@_checked
def leaderboard(warehouse: WarehouseName | Path | None = None) -> pl.DataFrame:
    """Returns results.leaderboard: the newest figures of each model, with their 95 % intervals, best first.

    Args:
        warehouse: where data is kept, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.

    Raises: UserError: nothing is published.
    """
    return query("from results.leaderboard", warehouse=warehouse)


@_checked
def benchmark(
    source: Any,
    *,
    plugins: Plugins = None,
    protocol: ProtocolNames = "published",
    budget: BudgetName | None = None,
    models: Models | None = None,
    feature_sets: FeatureSets | None = None,
    seeds: Seeds | None = None,
    folds: FoldCount | None = None,
    fold_seed: FoldSeed | None = None,
    refresh: bool = False,
    workers: Count | None = None,
    warehouse: WarehouseName | Path | None = None,
    columns: Columns | Mapping[str, str] = "",
    max_reject_share: Share = 0.05,
    min_genre_rows: Count = 20,
    max_source_bytes: Bytes = SOURCE_BYTES,
    artist_separators: Separators | None = None,
    cell_timeout: Seconds | None = None,
    cell_memory: Mebibytes | None = None,
    units: Units | Mapping[str, str] = "",
    as_current: bool = False,
    progress: bool = True,
) -> RunOutcome:
    """Trains each cell in a process of its own, chooses champions, publishes the results, and writes the report.

    It does what the command `flows.benchmark` does on this machine: stored cells are reused, and if it is interrupted,
    what ended is published, and the same call goes on from there.

    Args:
        source: a frame (named `frame` in results and messages), a path, a URL, "sample[:ROWS]" or "snapshot:ID".
        plugins: Python files that add models, feature sets and protocols (docs/plugins.md), besides those of
            $MUSIC_PLUGINS.
        protocol: how rows are filled and split (docs/words.md).
        budget: full, brief or smoke. By default smoke for the sample, full for real tracks.
        models: train only these models, or groups of them. MODEL@NAME is a model with the settings that `flows.tune`
            saved as NAME.
        feature_sets: train only on these feature sets.
        seeds: repeat what is stochastic for each of these seeds. By default 42.
        folds: cross-validate each honest protocol on so many folds, 2 to 50, beside its single split. By default none.
        fold_seed: by which the tracks are divided into the folds. By default the study's, 42.
        refresh: train again what was trained before.
        workers: cells trained at once, one process each. By default one per core.
        warehouse: where data is kept, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.
        columns: the tracks' own column names by ours, or as text: as `--columns` of the commands.
        max_reject_share: stop if a larger share of the rows has bad values.
        min_genre_rows: drop genres with fewer valid rows.
        max_source_bytes: refuse a larger source, as it is or unpacked: bytes, or a size such as 20GB.
        artist_separators: what separates several artists in one name.
        cell_timeout: end a cell after so many seconds. By default 3600, but 120 for smoke.
        cell_memory: end a cell that uses more MiB.
        units: units of the columns that are in another unit than ours, or as text: as `--units`.
        as_current: make the source the warehouse's current catalogue, once the run is completed
            (docs/results.md#whose-results).
        progress: tell on standard error what was read and how many cells are done.

    Returns: how the run ended: its id, which is results.runs.run_id, its failed cells and its report.

    Raises: UserError: the source is refused, or every cell failed; the results are published then, too.
    """
    tell = cli.tell if progress else _tell_nobody
    opened = Warehouse.at(warehouse)
    request = Request.of(protocol, budget, models, feature_sets, seeds, opened, folds, fold_seed)
    at_once, threads = share_of_cores(workers)
    with opened.in_use(tell_of_upkeep if progress else _do_nothing):
        with as_source(source, opened) as readable:
            preparation = Preparation.of(
                readable,
                columns,
                protocol,
                opened.address,
                max_reject_share,
                min_genre_rows,
                max_source_bytes,
                artist_separators,
                units=units,
                required=request.required,
                folds=request.folds,
            )
            preparation.check()
            start_server(threads)  # it imports the numerical libraries meanwhile
            snapshot, tables = preparation.here(tell)
        spent, cells = request.cells(snapshot, tables)
        limits = Limits(cell_timeout or spent.cell_timeout, cell_memory, refresh)
        steps = Steps(
            runner="local",
            at_once=at_once,
            threads=threads,
            train=lambda jobs: _train(jobs, at_once, threads, limits, tell),
            choose=lambda run_id: champions.choose(run_id, opened, threads),
            publish=lambda placed: publish(placed, tables, opened),
            report=lambda _, run_id: _report(run_id, opened, tell),
            tell_of_trial=tell,
        )
        ended = carry_out(cells, snapshot, tables, spent, steps, opened, chooses_champions=True, as_current=as_current)
    for line in (*ended.decisions, *([GENERATED] if ended.is_generated else [])):
        tell(line)
    if ended.status == "failed":
        raise UserError(ended.why_failed)
    tell(ended.summary)
    return ended


def _train(jobs: list[Job], at_once: int, threads: int, limits: Limits, tell: Tell) -> Iterator[CellOutcome]:
    """Yields the outcome of each cell when it ends. A terminal shows a bar; elsewhere lines say how far the run is."""
    progress = CellProgress(len(jobs), is_wanted=tell is not _tell_nobody)
    told = time.monotonic()
    for outcome in train_cells(jobs, at_once, threads, limits, progress):
        yield outcome
        if not progress.is_shown and time.monotonic() - told > LINE_SECONDS:
            told = time.monotonic()
            tell(progress.line)


def _report(run_id: str, warehouse: Warehouse, tell: Tell) -> None:
    """Writes the report of a run; an error does not fail the run, which is done."""
    try:
        write_report(run_id, warehouse)
    except Exception as error:  # noqa: BLE001 - any
        tell(f"No report was written: {one_line(error)}")


def _tell_nobody(line: str) -> None:
    """Says nothing."""


def _do_nothing() -> None:
    """Says nothing of upkeep that is waited for."""

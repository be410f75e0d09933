"""Runs made without Prefect, for tests that look at what is published."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from tasks.features.build import build_features
from tasks.ingest.read import ingest
from tasks.prediction import champions
from tasks.results.publish import publish
from tasks.specs import STUDY_SEED, Folds
from tasks.storage.warehouse import Warehouse
from tasks.training.catalogues import Catalogues
from tasks.training.cell_files import find_result
from tasks.training.drift import measure_source
from tasks.training.grid import plan_cells, with_folds
from tasks.training.jobs import Job, make_jobs
from tasks.training.runs import CellOutcome, finish_run, outcome_of, start_run
from tasks.training.train import train_cell


def make_run(
    home: Warehouse,
    source: str,
    models: Sequence[str],
    feature_sets: Sequence[str] = ("all",),
    *,
    protocols: Sequence[str] = ("published",),
    errors: dict[str, str] | None = None,
    refresh: bool = False,
    min_genre_rows: int = 20,
    ended: bool = True,
    as_current: bool = False,
    chooses: bool = False,
    folds: int | None = None,
    fold_seed: int = STUDY_SEED,
) -> str:
    """Train in this process, record and publish a run of budget smoke; its id.

    Args: errors: models that fail, or one fold of a model, as "linear 2", and how. chooses: champions, too.
    """
    snapshot = ingest(source, {}, 0.5, home)
    divided = Folds(folds, fold_seed) if folds else None
    tables = [
        table for name in protocols for table in build_features(snapshot, name, min_genre_rows, home, folds=divided)
    ]
    measure_source(snapshot, home)
    cells = plan_cells(list(protocols), "smoke", list(models), list(feature_sets), [42])
    cells = with_folds(cells, divided) if divided else cells
    run = start_run(Catalogues.of(home).placed(snapshot, home), "smoke", home, as_current=as_current)
    told = errors or {}
    outcomes = [
        _outcome(job, home, told.get(job.cell.model) or told.get(f"{job.cell.model} {job.cell.fold}"), refresh)
        for job in make_jobs(cells, tables, run.run_id, home, 1)
        if ended
    ]
    if ended:
        status = "completed" if any(outcome.status == "ok" for outcome in outcomes) else "failed"
        finish_run(run, status, outcomes, home)
    if chooses:
        champions.choose(run.run_id, home, 1)
    publish(snapshot, tables, home)
    return run.run_id


def _outcome(job: Job, home: Warehouse, error: str | None, refresh: bool) -> CellOutcome:
    if error:
        return outcome_of(job, "failed", error=error)
    if not refresh and (stored := find_result(job.key, home)):
        return outcome_of(job, "ok", reused=True, result=stored)
    train_cell(job)
    return outcome_of(job, "ok", result=job.result)


def night(
    home: Warehouse,
    source: str,
    models: tuple[str, ...] = ("linear",),
    *,
    refresh: bool = False,
    genre_rows: int = 2,
    published: bool = True,
) -> str:
    """What a benchmark does, in this process; returns the run's id. published: if not, it ends just before that."""
    with home.in_use():
        snapshot = ingest(source, {}, 0.05, home)
        tables = build_features(snapshot, "published", genre_rows, home)
        run = start_run(snapshot, "smoke", home)
        outcomes = []
        for job in make_jobs(
            plan_cells(["published"], "smoke", list(models), ["all"], [42]), tables, run.run_id, home, 1
        ):
            stored = None if refresh else find_result(job.key, home)
            if stored is None:
                train_cell(job)
            outcomes.append(outcome_of(job, "ok", reused=stored is not None, result=stored or job.result))
        finish_run(run, "completed", outcomes, home)
        if published:
            publish(snapshot, tables, home)
    return run.run_id


def everything(home: Warehouse, *, run_ids: set[str] | None = None) -> dict[str, list[tuple]]:
    """All rows of every table and view; of those that have a run_id, only the rows of `run_ids`."""
    with duckdb.connect(str(home.database), read_only=True) as connection:
        names = connection.execute(
            """
            select table_schema, table_name, bool_or(column_name = 'run_id') from information_schema.columns
            where table_schema in ('raw', 'staging', 'features', 'results') group by all
            """
        ).fetchall()
        assert len(names) > 30
        rows = {}
        for schema, name, has_run in names:
            found = connection.sql(f"from {schema}.{name}")
            if run_ids is not None and has_run:
                found = found.filter(f"run_id in ({', '.join(map(repr, sorted(run_ids)))})")
            rows[f"{schema}.{name}"] = sorted(map(repr, found.fetchall()))
    return rows


def files(home: Warehouse) -> dict[str, int]:
    return {str(p.relative_to(home.root)): p.stat().st_size for p in home.root.rglob("*") if p.is_file()}

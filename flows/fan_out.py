"""Trains the cells of a run, on this machine or on Dask workers, and records and publishes their results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.futures import as_completed
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import cli, server
from flows.options import Outcome
from flows.preparing import SOURCE_OPTIONS, Preparation
from tasks.compute.progress import CellProgress
from tasks.features.registry import BuiltTable
from tasks.ingest.snapshots import Snapshot
from tasks.orchestration.artifacts import mark_crashed, progress_artifact
from tasks.orchestration.events import emit_of_run
from tasks.orchestration.executors import Executor, Future, executor_of
from tasks.orchestration.prefect_tasks import (
    CellError,
    champions_task,
    publish_task,
    report_task,
)
from tasks.orchestration.steps import Steps, carry_out
from tasks.results import database, run_queries
from tasks.specs import Budget, Cell, Folds
from tasks.storage.warehouse import Warehouse
from tasks.training import dask_worker, drift, grid, large_tables
from tasks.training.jobs import Job
from tasks.training.local import Limits
from tasks.training.runs import CellOutcome, outcome_of

# Name of the state of a flow run in which some cells failed. The type is completed, as the results are published.
WITH_FAILURES = "CompletedWithFailures"


def run_cells(
    cells: list[Cell],
    snapshot: Snapshot,
    tables: list[BuiltTable],
    budget: Budget,
    executor: Executor,
    limits: Limits,
    warehouse: Warehouse,
    *,
    chooses_champions: bool,
    as_current: bool = False,
) -> State:
    """Trains a run's cells, one task run each, and writes the report. Results are published however the run ends.

    Args: chooses_champions: let the run's best models challenge the champions of its catalogue. as_current: make its
        catalogue the current one, once it is completed.

    Returns: the flow's final state; its result is the run's id.
    """
    if executor.workers_together:
        cells = grid.distributed(cells, tables, executor.workers_together)
        if not any(cell.workers for cell in cells):
            cli.tell(
                f"--spread changes nothing: no XGBoost model is of a table of more than "
                f"{large_tables.LARGE_ROWS:,} rows"
            )
    steps = Steps(
        runner=executor.name,
        at_once=executor.at_once,
        threads=executor.threads,
        train=lambda jobs: _train(jobs, executor, limits),
        choose=lambda run_id: champions_task(run_id, executor.threads, warehouse),
        publish=lambda snapshot: publish_task(snapshot, tables, warehouse),
        report=lambda snapshot, run_id: report_task(snapshot, tables, run_id, warehouse),
        tell_of_trial=_tell_of_trial,
    )
    ended = carry_out(
        cells,
        snapshot,
        tables,
        budget,
        steps,
        warehouse,
        chooses_champions=chooses_champions,
        as_current=as_current,
        flow_run_id=flow_run.id,
    )
    for line in ended.decisions:
        cli.tell(line)
    if chooses_champions:
        emit_of_run(ended.run_id, warehouse)
    get_run_logger().info("%s; published in %s", ended.summary, warehouse.address)
    if ended.status == "failed":
        return Failed(message=ended.why_failed, data=ended.run_id)
    return Completed(name=WITH_FAILURES if ended.failures else None, message=ended.summary, data=ended.run_id)


def _tell_of_trial(line: str) -> None:
    cli.tell(line)
    get_run_logger().warning("%s", line)


def outcome_of_run(
    function: Callable[..., State],
    options: dict[str, Any],
    required: Collection[str],
    print_run: Callable[[str, Warehouse], str],
    folds: Folds | None = None,
) -> Outcome:
    """Runs, for a command, a function that ends with `run_cells` as a flow.

    Args:
        function: the function.
        options: its parameters.
        required: our columns that the source must have.
        print_run: prints a published run, given its id.
        folds: of its cross-validation.
    """
    given = {name: options[name] for name in SOURCE_OPTIONS}
    warehouse = Warehouse.at(options["warehouse"])
    preparation = Preparation.of(**given, required=required, folds=folds)
    preparation.check()
    chosen = (options["runner"], options["dask_address"], options["workers"])
    executor_of(*chosen, warehouse, spread=options["spread"]).prepare()
    state = server.run_with_prefect(function, options, preparation.before_flow)
    cli.tell(state.message or "")
    run_id = str(state.result(raise_on_failure=False))
    with database.published(warehouse) as connection:
        run, counts = run_queries.run_of(connection, run_id), run_queries.cell_counts(connection, run_id)
    report = warehouse.report(run_id)
    found = drift.source_drift(run["snapshot"], warehouse)
    facts = {
        "run_id": run_id,
        "status": run["status"],
        "source": run["source"],
        "is_generated": run["is_generated"],
        "cells": {"all": counts["n"], "ok": counts["ok"], "reused": counts["reused"], "failed": counts["failed"]},
        "drift": found.facts if found else None,
        "report": report if report.exists() else None,
        "warehouse": warehouse.address,
    }
    code = 1 if run["status"] == "failed" else 0
    return Outcome(facts=facts, show=lambda: print_run(run_id, warehouse), code=code)


def _train(jobs: list[Job], executor: Executor, limits: Limits) -> Iterator[CellOutcome]:
    """Yields the outcome of each cell when it ends."""
    progress = CellProgress(len(jobs))
    with executor.started(limits, progress) as submit, progress, progress_artifact(progress):
        together = [job for job in jobs if job.cell.workers]
        # A cell that needs all workers at once must not wait for a worker that trains another cell.
        for part in (together, [job for job in jobs if not job.cell.workers]):
            futures = {submit(job): job for job in part}
            for future in as_completed(list(futures)):
                yield _outcome(future, futures[future])
                progress.done()


def _outcome(future: Future, job: Job) -> CellOutcome:
    """Returns a cell's outcome, however its task run ended."""
    future.wait()
    try:
        result = future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001 - any of Dask's, whose worker or scheduler died
        if job.is_stored:
            return outcome_of(job, "ok", result=job.result)
        reason = dask_worker.why_lost(error)
        mark_crashed(future.task_run_id, reason)
        return outcome_of(job, "failed", error=reason)
    if isinstance(result, CellOutcome):
        return result
    if isinstance(result, CellError):
        return result.outcome
    return outcome_of(job, "failed", error=f"{type(result).__name__}: {result}")

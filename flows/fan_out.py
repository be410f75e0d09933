"""A run's cells: trained in processes of this machine or on the workers of a Dask cluster, recorded and published."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, get_args

from prefect import Flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED, temporary_settings
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import cli, server
from flows.parameters import RunnerName
from flows.preparing import SOURCE_OPTIONS, Preparation
from tasks.compute.dask_client import check_installed
from tasks.compute.processes import Processes, share_of_cores, start_server
from tasks.compute.progress import CellProgress
from tasks.errors import UserError
from tasks.features.registry import BuiltTable
from tasks.ingest.snapshots import Snapshot
from tasks.orchestration.artifacts import mark_crashed, progress_artifact
from tasks.orchestration.prefect_tasks import (
    CellError,
    champions_task,
    publish_task,
    report_task,
    train_on_worker_task,
    train_task,
)
from tasks.specs import Budget, Cell
from tasks.storage.warehouse import Warehouse
from tasks.training import dask_worker, grid, large_tables
from tasks.training.jobs import Job, make_jobs
from tasks.training.needs import required_columns
from tasks.training.runs import CellOutcome, finish_run, outcome_of, start_run

# Ctrl-C reaches a run's own workers, too, which end when it ends them.
IGNORE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
# The state of a flow run some of whose cells failed: completed, as its results are published, but told apart by name.
WITH_FAILURES = "CompletedWithFailures"
Future = PrefectFuture[State[CellOutcome]]


@dataclass(frozen=True, slots=True)
class FanOut:
    """Where cells are trained, how many at once, and on how many threads each."""

    runner: RunnerName
    address: str | None  # of a Dask scheduler; None: a cluster of the run's own, on this machine
    at_once: int
    threads: int
    spread: bool = False  # whether all workers fit a large XGBoost model together

    @classmethod
    def of(
        cls,
        runner: RunnerName,
        address: str | None,
        workers: int | None,
        warehouse: Warehouse,
        *,
        spread: bool = False,
    ) -> FanOut:
        """What a flow's parameters ask for. Raises: UserError: it is not possible, or the cluster is not fit for it."""
        if address and runner != "dask":
            raise UserError("--dask-address is for --runner dask. Give both, or neither.")
        if spread and runner != "dask":
            raise UserError("--spread is for --runner dask, whose workers fit a model together. Give both, or neither.")
        if address and workers:
            raise UserError("--workers is not for a cluster at --dask-address, which has the workers it has.")
        at_once, threads = share_of_cores(workers)
        if runner == "local":
            return cls(runner, None, at_once, threads)
        check_installed()
        return cls(runner, address, dask_worker.check_cluster(address, warehouse) if address else at_once, 1, spread)

    def prepare(self) -> None:
        """Start what takes a while to start, if it is of this process."""
        if self.runner == "local":
            start_server(self.threads)


def add_runner(parser: argparse.ArgumentParser) -> None:
    """The options that say where cells are trained."""
    add = parser.add_argument
    add("--workers", type=int, metavar="N", help="cells trained at once; by default one per core")
    add(
        "--runner",
        choices=get_args(RunnerName),
        default="local",
        help="train here, or on a Dask cluster; by default local",
    )
    add(
        "--spread",
        action="store_true",
        help="fit XGBoost to more than a million rows on all workers of the cluster together",
    )
    add("--dask-address", metavar="tcp://HOST:PORT", help="the cluster's scheduler; by default a cluster of its own")


def run_cells(
    cells: list[Cell],
    snapshot: Snapshot,
    tables: list[BuiltTable],
    budget: Budget,
    where: FanOut,
    home: Warehouse,
    *,
    timeout: float | None,
    memory: float | None,
    refresh: bool,
    chooses_champions: bool,
) -> State:
    """Train a run's cells, one task run each, record and publish what came of them, however the run ends, and report.

    Args: timeout: seconds, by default the budget's, memory: MiB after which a cell is ended. refresh: train what was
        trained before, too. chooses_champions: let the run's best models challenge the champions.
    Returns: the flow's end; its result is the run's id.
    """
    run = start_run(
        snapshot,
        budget.name,
        home,
        flow_run.id,
        runner=where.runner,
        cells_at_once=where.at_once,
        threads_per_cell=where.threads,
    )
    outcomes: list[CellOutcome] = []
    status = "interrupted"
    try:
        cells = grid.distributed(cells, tables, where.at_once) if where.spread else cells
        if where.spread and not any(cell.workers for cell in cells):
            cli.tell(
                f"--spread changes nothing: no XGBoost model is of a table of more than "
                f"{large_tables.LARGE_ROWS:,} rows"
            )
        jobs = make_jobs(cells, tables, run.run_id, home, where.threads)
        for outcome in _train(jobs, where, timeout or budget.cell_timeout, memory, refresh):
            outcomes.append(outcome)  # noqa: PERF402 - those that ended stay if the run is interrupted
        status = "completed" if any(outcome.status == "ok" for outcome in outcomes) else "failed"
    except Exception:
        status = "failed"
        raise
    finally:
        finish_run(run, status, outcomes, home)
        challenges = chooses_champions and status == "completed"
        decided = champions_task(run.run_id, where.threads, home) if challenges else []
        publish_task(snapshot, tables, home)
    report_task(snapshot, tables, run.run_id, home)

    for line in decided:
        cli.tell(line)
    failed = [outcome for outcome in outcomes if outcome.status != "ok"]
    message = f"{len(outcomes) - len(failed)} of {len(outcomes)} cells ok, {sum(o.reused for o in outcomes)} reused"
    if (report := home.report(run.run_id)).exists():
        message += f"; report {report}"
    get_run_logger().info("%s; published in %s", message, home.address)
    if status == "failed":
        return Failed(message=f"every cell failed, the first with: {failed[0].error}", data=run.run_id)
    return Completed(name=WITH_FAILURES if failed else None, message=message, data=run.run_id)


def run_flow(flow: Flow[..., State], options: dict[str, Any], home: Warehouse, cells: list[Cell]) -> str:
    """Run a flow that ends with `run_cells`, for its command.

    Args: options: the flow's parameters. cells: what they ask for, of any budget.

    Returns: the run's id.
    """
    ahead = Preparation.of(**{name: options[name] for name in SOURCE_OPTIONS}, required=required_columns(cells))
    chosen = (options["runner"], options["dask_address"], options["workers"])
    FanOut.of(*chosen, home, spread=options["spread"]).prepare()
    state = server.run_with_prefect(flow, options, ahead.carry_out)
    cli.tell(state.message or "")
    return str(state.result(raise_on_failure=False))


def _train(
    jobs: list[Job], where: FanOut, timeout: float, memory: float | None, refresh: bool
) -> Iterator[CellOutcome]:
    """Yields how each cell ended, as they end."""
    with ExitStack() as stack:
        progress = CellProgress(len(jobs))
        if where.runner == "dask":
            submit = stack.enter_context(_on_dask(where, timeout, memory, refresh, progress))
        else:
            submit = stack.enter_context(_here(where, timeout, memory, refresh, progress))
        stack.enter_context(progress)
        stack.enter_context(progress_artifact(progress))
        together = [job for job in jobs if job.cell.workers]
        # What needs all workers at once must not wait for one of them that trains another cell.
        for part in (together, [job for job in jobs if not job.cell.workers]):
            futures = {submit(job): job for job in part}
            for future in as_completed(list(futures)):
                yield _outcome(future, futures[future])
                progress.done()


@contextmanager
def _here(
    where: FanOut, timeout: float, memory: float | None, refresh: bool, progress: CellProgress
) -> Iterator[Callable[[Job], Future]]:
    with (
        ThreadPoolTaskRunner[State[CellOutcome]](max_workers=where.at_once) as runner,
        Processes(where.threads, timeout, memory) as processes,
    ):
        shared = {"refresh": refresh, "processes": processes, "progress": progress}
        yield lambda job: runner.submit(train_task, {"job": job, **shared})


@contextmanager
def _on_dask(
    where: FanOut, timeout: float, memory: float | None, refresh: bool, progress: CellProgress
) -> Iterator[Callable[[Job], Future]]:
    from prefect_dask.task_runners import DaskTaskRunner

    with get_client(sync_client=True) as client:
        # What travels with each task: the address of the server that states are told, temporary or not. A worker that
        # cannot reach it trains all the same.
        told = {PREFECT_API_URL: str(client.api_url), PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}
    options: dict[str, Any] = {"address": where.address}
    if where.address is None:
        own = {"n_workers": where.at_once, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
        options = {"cluster_kwargs": own | {"preload": IGNORE_INTERRUPTS}}
    shared = {"refresh": refresh, "timeout": timeout, "memory": memory}
    with temporary_settings(told), DaskTaskRunner(**options) as runner, ExitStack() as stack:

        def on_a_worker(job: Job) -> Future:
            return runner.submit(train_on_worker_task, {"job": job, **shared})

        if not where.spread:
            yield on_a_worker
            return
        # One process of this machine, one at a time, leads all workers.
        one = replace(where, at_once=1)
        here = stack.enter_context(_here(one, timeout, memory, refresh, progress))
        address = runner.client.scheduler.address
        yield lambda job: here(replace(job, cluster=address)) if job.cell.workers else on_a_worker(job)


def _outcome(future: Future, job: Job) -> CellOutcome:
    """A cell's row, however its task run ended."""
    future.wait()
    try:
        result = future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001 - of Dask, whose worker or scheduler died
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

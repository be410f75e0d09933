"""Trains cells in processes of this machine, unless they are stored. A flow and a call from Python both use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass

from tasks.compute.processes import Outcome, Processes
from tasks.compute.progress import CellProgress
from tasks.storage.warehouse import Warehouse
from tasks.training.cell_files import find_result
from tasks.training.cell_process import train_job
from tasks.training.jobs import Job
from tasks.training.runs import CellOutcome, outcome_of

# Between two looks at what has ended. Polars handles SIGINT so that Ctrl-C does not end a wait without a time limit.
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of each cell."""

    timeout: float  # seconds
    memory: float | None  # MiB
    refresh: bool  # whether a stored cell is trained again


def trained(job: Job, train: Callable[[], Outcome], *, refresh: bool) -> CellOutcome:
    """Calls `train` for a cell unless it is stored, by an earlier run or by this one on a worker that was then lost."""
    stored = None if refresh else find_result(job.key, Warehouse.at(job.warehouse))
    if stored and stored != job.result:
        return outcome_of(job, "ok", reused=True, result=stored)
    if not job.is_stored:
        ended = train()
        if ended.status != "ok" and not job.is_stored:
            return outcome_of(job, ended.status, error=ended.error)
    return outcome_of(job, "ok", result=job.result)


def in_process(job: Job, processes: Processes, progress: CellProgress) -> Outcome:
    """Trains a cell in a separate process, and shows it as in progress meanwhile."""
    progress.started(job.cell)
    try:
        return processes.run(train_job, job, Warehouse.at(job.warehouse).temporary("log"))
    finally:
        progress.ended(job.cell)


def train_cells(
    jobs: list[Job], at_once: int, threads: int, limits: Limits, progress: CellProgress
) -> Iterator[CellOutcome]:
    """Yields the outcome of each cell when it ends; `at_once` cells are trained at the same time."""
    with (
        ThreadPoolExecutor(max_workers=at_once) as pool,
        Processes(threads, limits.timeout, limits.memory) as processes,  # ends first: no thread waits for a child
        progress,
    ):

        def outcome(job: Job) -> CellOutcome:
            try:
                return trained(job, lambda: in_process(job, processes, progress), refresh=limits.refresh)
            except Exception as error:  # noqa: BLE001 - such as a store's: the other cells go on
                return outcome_of(job, "failed", error=f"{type(error).__name__}: {error}")

        try:
            waiting = {pool.submit(outcome, job) for job in jobs}
            while waiting:
                ended, waiting = wait(waiting, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
                    progress.done()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

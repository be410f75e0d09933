"""Where a run's cells are trained: in processes of this machine, or on the workers of a Dask cluster.

Both are used alike: `with executor.started(limits, progress) as submit`, then `submit(job)` for each cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.compute.dask_client import check_installed
from tasks.compute.processes import Processes, share_of_cores, start_server
from tasks.compute.progress import CellProgress
from tasks.errors import UserError
from tasks.orchestration.prefect_tasks import train_on_worker_task, train_task
from tasks.storage.warehouse import Warehouse
from tasks.training.dask_worker import check_cluster
from tasks.training.jobs import Job
from tasks.training.runs import CellOutcome

# Ctrl-C reaches a run's own workers, too, which end when it ends them.
IGNORE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
Future = PrefectFuture[State[CellOutcome]]
Submit = Callable[[Job], Future]


@dataclass(frozen=True, slots=True)
class Limits:
    """What each cell may use, and whether one that is stored is trained again."""

    timeout: float  # seconds
    memory: float | None  # MiB
    refresh: bool


class Executor(Protocol):
    """Trains cells, as results.runs tells of it."""

    @property
    def name(self) -> str:
        """Local or dask."""
        ...

    @property
    def at_once(self) -> int:
        """Cells trained at a time."""
        ...

    @property
    def threads(self) -> int:
        """Threads of each cell."""
        ...

    @property
    def spreads(self) -> bool:
        """Whether all workers fit a large XGBoost model together."""
        ...

    def prepare(self) -> None:
        """Start what takes a while to start, if it is of this process."""
        ...

    def started(self, limits: Limits, progress: CellProgress) -> AbstractContextManager[Submit]:
        """Ready while the block lasts. Yields: what to call with each job."""
        ...


def executor_of(
    runner: str, address: str | None, workers: int | None, warehouse: Warehouse, *, spread: bool = False
) -> Executor:
    """The executor that a flow's parameters ask for.

    Raises: UserError: they do not go together, or the cluster is not fit for the run.
    """
    if address and runner != "dask":
        raise UserError("--dask-address is for --runner dask. Give both, or neither.")
    if spread and runner != "dask":
        raise UserError("--spread is for --runner dask, whose workers fit a model together. Give both, or neither.")
    if address and workers:
        raise UserError("--workers is not for a cluster at --dask-address, which has the workers it has.")
    at_once, threads = share_of_cores(workers)
    if runner == "local":
        return LocalExecutor(at_once, threads)
    check_installed()
    return DaskExecutor(address, check_cluster(address, warehouse) if address else at_once, spreads=spread)


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Each cell in a process of its own on this machine."""

    at_once: int
    threads: int
    name: str = "local"
    spreads: bool = False

    def prepare(self) -> None:
        """Start the server that processes are forked from: it imports numerical libraries meanwhile."""
        start_server(self.threads)

    @contextmanager
    def started(self, limits: Limits, progress: CellProgress) -> Iterator[Submit]:
        """Ready while the block lasts. Yields: what to call with each job."""
        with (
            ThreadPoolTaskRunner[State[CellOutcome]](max_workers=self.at_once) as runner,
            Processes(self.threads, limits.timeout, limits.memory) as processes,
        ):
            shared = {"refresh": limits.refresh, "processes": processes, "progress": progress}
            yield lambda job: runner.submit(train_task, {"job": job, **shared})


@dataclass(frozen=True, slots=True)
class DaskExecutor:
    """Each cell on a worker of one thread; with `spreads` large XGBoost models on all workers together."""

    address: str | None  # the scheduler's; None: a cluster of the run's own, on this machine
    at_once: int
    threads: int = 1
    name: str = "dask"
    spreads: bool = False

    def prepare(self) -> None:
        """Nothing is of this process."""

    @contextmanager
    def started(self, limits: Limits, progress: CellProgress) -> Iterator[Submit]:
        """Ready while the block lasts. Yields: what to call with each job."""
        from prefect_dask.task_runners import DaskTaskRunner

        with get_client(sync_client=True) as client:
            # What travels with each task: the address of the server that states are told, temporary or not. A worker
            # that cannot reach it trains all the same.
            told = {PREFECT_API_URL: str(client.api_url), PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}
        options: dict[str, Any] = {"address": self.address}
        if self.address is None:
            own = {"n_workers": self.at_once, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
            options = {"cluster_kwargs": own | {"preload": IGNORE_INTERRUPTS}}
        shared = {"refresh": limits.refresh, "timeout": limits.timeout, "memory": limits.memory}
        with temporary_settings(told), DaskTaskRunner(**options) as runner, ExitStack() as stack:

            def on_a_worker(job: Job) -> Future:
                return runner.submit(train_on_worker_task, {"job": job, **shared})

            if not self.spreads:
                yield on_a_worker
                return
            # One process of this machine, one at a time, leads all workers.
            here = stack.enter_context(LocalExecutor(1, self.threads).started(limits, progress))
            scheduler = runner.client.scheduler.address
            yield lambda job: here(replace(job, cluster=scheduler)) if job.cell.workers else on_a_worker(job)

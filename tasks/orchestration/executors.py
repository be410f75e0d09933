"""Executors: they train a run's cells in processes of this machine or on Dask workers.

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
from tasks.plugins import loaded_files
from tasks.storage.warehouse import Warehouse
from tasks.training.dask_worker import check_cluster
from tasks.training.jobs import Job
from tasks.training.local import Limits
from tasks.training.runs import CellOutcome

# Ctrl-C also reaches the Dask workers that a run started. They ignore it, as the run ends them itself.
IGNORE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
LOAD_PLUGINS = "from tasks.plugins import load_plugins; load_plugins({})"
Future = PrefectFuture[State[CellOutcome]]
Submit = Callable[[Job], Future]


class Executor(Protocol):
    """Trains cells; results.runs records name, cells at once and threads."""

    @property
    def name(self) -> str:
        """`local` or `dask`."""
        ...

    @property
    def at_once(self) -> int:
        """Number of cells that are trained at the same time."""
        ...

    @property
    def threads(self) -> int:
        """Number of threads of each cell."""
        ...

    @property
    def workers_together(self) -> int:
        """Number of Dask workers that together fit an XGBoost model with many rows; 0: none do."""
        ...

    def prepare(self) -> None:
        """Starts what takes a while to start, in the background."""
        ...

    def started(self, limits: Limits, progress: CellProgress) -> AbstractContextManager[Submit]:
        """Runs the executor while the block lasts. Yields: a function that submits a job."""
        ...


def executor_of(
    runner: str, address: str | None, workers: int | None, warehouse: Warehouse, *, spread: bool = False
) -> Executor:
    """Returns the executor for a flow's parameters.

    Raises: UserError: the parameters contradict each other, or the cluster cannot train the run.
    """
    if address and runner != "dask":
        raise UserError("--dask-address needs --runner dask.")
    if spread and runner != "dask":
        raise UserError("--spread needs --runner dask, whose workers fit a model together.")
    if address and workers:
        raise UserError("--workers cannot be given with --dask-address: that cluster has its own workers.")
    at_once, threads = share_of_cores(workers)
    if runner == "local":
        return LocalExecutor(at_once, threads)
    check_installed()
    n_workers, at_once = check_cluster(address, warehouse) if address else (at_once, at_once)
    return DaskExecutor(address, at_once, workers_together=n_workers if spread else 0)


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Trains each cell in a separate process of this machine."""

    at_once: int
    threads: int
    name: str = "local"
    workers_together: int = 0

    def prepare(self) -> None:
        """Starts the server that processes are forked from, so that it imports the numerical libraries meanwhile."""
        start_server(self.threads)

    @contextmanager
    def started(self, limits: Limits, progress: CellProgress) -> Iterator[Submit]:
        """Runs the executor while the block lasts. Yields: a function that submits a job."""
        with (
            ThreadPoolTaskRunner[State[CellOutcome]](max_workers=self.at_once) as runner,
            Processes(self.threads, limits.timeout, limits.memory) as processes,
        ):
            shared = {"refresh": limits.refresh, "processes": processes, "progress": progress}
            yield lambda job: runner.submit(train_task, {"job": job, **shared})


@dataclass(frozen=True, slots=True)
class DaskExecutor:
    """Trains each cell in one thread of a Dask worker, and large XGBoost models on all workers if they are to."""

    address: str | None  # of the scheduler; None: the run starts its own cluster on this machine
    at_once: int
    threads: int = 1
    name: str = "dask"
    workers_together: int = 0

    def prepare(self) -> None:
        """Does nothing: the workers are other processes."""

    @contextmanager
    def started(self, limits: Limits, progress: CellProgress) -> Iterator[Submit]:
        """Runs the executor while the block lasts. Yields: a function that submits a job."""
        from prefect_dask.task_runners import DaskTaskRunner

        with get_client(sync_client=True) as client:
            # Settings that travel with each task: the address of the Prefect server that gets its states. A worker
            # that cannot reach the server trains all the same.
            settings = {PREFECT_API_URL: str(client.api_url), PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}
        options: dict[str, Any] = {"address": self.address}
        if self.address is None:
            own = {"n_workers": self.at_once, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
            options = {"cluster_kwargs": own | {"preload": [IGNORE_INTERRUPTS, LOAD_PLUGINS.format(loaded_files())]}}
        shared = {"refresh": limits.refresh, "timeout": limits.timeout, "memory": limits.memory}
        with temporary_settings(settings), DaskTaskRunner(**options) as runner, ExitStack() as stack:

            def on_a_worker(job: Job) -> Future:
                return runner.submit(train_on_worker_task, {"job": job, **shared})

            if not self.workers_together:
                yield on_a_worker
                return
            # Of the distributed fits, one process of this machine at a time leads all workers.
            here = stack.enter_context(LocalExecutor(1, self.threads).started(limits, progress))
            scheduler = runner.client.scheduler.address
            yield lambda job: here(replace(job, cluster=scheduler)) if job.cell.workers else on_a_worker(job)

"""Trains cells on Dask workers, and checks that the workers match the flow's machine.

A Dask worker trains a cell in a separate process (tasks/compute/processes.py), as the flow's machine does. If a worker
dies, Dask's scheduler gives its cells to other workers. A result may only be stored under a cell's key if the key's
code and libraries made it. So workers with other code or libraries are refused, and so are workers that do not see the
flow's warehouse.
"""

from __future__ import annotations

import platform
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

from tasks.compat import allow_children
from tasks.compute.dask_client import connected, current_worker
from tasks.compute.processes import Outcome, Processes
from tasks.errors import UserError, one_line
from tasks.models.registry import MODELS
from tasks.plugins import load_plugins, loaded_files
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training import cell_key
from tasks.training.cell_process import train_job
from tasks.training.jobs import Job, key_of
from tasks.training.runs import library_versions

CODE = "training code"
ONCE = threading.Lock()
CHILDREN: set[Any] = set()  # the processes in which this worker trains, of all runs


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a Dask worker reports about itself."""

    setup: dict[str, str]  # versions of libraries, Python and training code, which decide its results
    has_warehouse: bool


def check_cluster(address: str, warehouse: Warehouse) -> tuple[int, int]:
    """Checks that the Dask workers of a scheduler would compute the same results as this process.

    Returns: the number of workers, and of their threads together.

    Raises: UserError: no scheduler answers, it has no workers, or one has other versions or another warehouse.
    """
    probe = warehouse.temporary("probe")
    with connected(address) as client:
        probe.touch()
        try:
            asked = (warehouse.address, probe.name, loaded_files(), [*MODELS])
            found = client.run(_seen_here, *asked, on_error="return")
        finally:
            probe.unlink(missing_ok=True)
        threads = client.nthreads()
    if not found:
        raise UserError(f"{address}: the scheduler has no workers. Start some: dask worker {address}")
    here = _setup([*MODELS])
    for worker, seen in found.items():
        if reason := refusal(here, seen, warehouse):
            raise UserError(f"{worker}: {reason}")
    return len(found), sum(threads.get(worker, 1) for worker in found)


def refusal(here: dict[str, str], seen: WorkerFacts | BaseException, warehouse: Warehouse) -> str | None:
    """Returns the reason why a Dask worker must not train cells; None: it may.

    Args: here: the setup of the flow's process. seen: the worker's report, or the error that it raised.
    """
    if isinstance(seen, BaseException):
        return f"cannot run this project ({one_line(seen)}). Install it there as it is here."
    if differing := _differing(here, seen.setup):
        return (
            f"would compute other results than this machine: {differing}. Install the same versions there "
            "(constraints.txt, and the same version of the project), and start it again."
        )
    if not seen.has_warehouse:
        return (
            f"does not see the warehouse {warehouse.address}. Choose a --warehouse that every worker can reach at the "
            "same address, such as a shared folder."
        )
    return None


def train_here(job: Job, timeout: float, memory: float | None) -> Outcome:
    """Trains a cell in a separate process on this Dask worker. Args: timeout, memory: see Processes."""
    load_plugins(job.plugins)
    worker, is_wanted = current_worker()
    if key_of(job.cell, job.feature_version) != job.key:
        return Outcome("failed", error=f"worker {worker.address} has other libraries or code than the flow")
    with ONCE:
        processes = _processes(job.threads, timeout, memory)
    return processes.run(train_job, job, Warehouse.at(job.warehouse).temporary("log"), is_wanted)


def why_lost(error: BaseException) -> str:
    """Says why Dask has no result of a cell. Args: error: what Dask raised for it."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return f"{error.allowed_failures + 1} worker(s) died while training it, the last {error.last_worker.address}"
    return f"its result was lost with the cluster ({getattr(error, 'reason', one_line(error)[:300])})"


@cache
def _processes(threads: int, timeout: float, memory: float | None) -> Processes:
    """Returns this worker's Processes with these limits. All its cells share the worker's memory limit."""
    from distributed import get_worker

    allow_children()
    limit = get_worker().memory_manager.memory_limit
    return Processes(threads, timeout, memory, usable=limit / 2**20 if limit else None, children=CHILDREN).__enter__()


def _seen_here(address: str, probe: str, plugins: tuple[str, ...], models: list[str]) -> WorkerFacts:
    load_plugins(plugins)
    setup = _setup(models)
    try:
        warehouse = Warehouse.to_read(address)
    except UserError:
        return WorkerFacts(setup, has_warehouse=False)
    return WorkerFacts(setup, warehouse.is_remote or (warehouse.root / "tmp" / probe).exists())


def _setup(models: list[str]) -> dict[str, str]:
    """Args: models: names of those that the flow knows. A worker may also know those of other runs' plug-ins."""
    specs = [MODELS[name] for name in models]
    keys = [cell_key.version_of(spec) + duck.digest(spec.parameters) for spec in specs]
    return library_versions() | {"python": ".".join(platform.python_version_tuple()[:2]), CODE: duck.digest(keys)}


def _differing(here: dict[str, str], there: dict[str, str]) -> str:
    """Says how the setup of a Dask worker differs; empty if it does not.

    Code is compared only if all libraries are equal, because the digest of the code depends on Python's version.
    """
    names = [name for name in sorted({*here, *there} - {CODE}) if here.get(name) != there.get(name)]
    differences = [f"{name} {there.get(name, 'is missing')} for {here.get(name, 'none')}" for name in names]
    if not differences and here[CODE] != there[CODE]:
        return f"its {CODE} differs"
    return ", ".join(differences)

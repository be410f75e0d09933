"""Cells on a Dask cluster of real processes: a scheduler and workers that are killed, differ, or are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tasks.cluster import _differing, _setup, check_cluster
from tasks.errors import UserError
from tasks.warehouse import Warehouse
from tests.flows.support import ROOT, clean_environment, query, run, started, training_processes, until

pytest.importorskip("distributed")
CELLS = ["--source", "sample:3000", "--protocol", "cold_start", "--feature-sets", "all"]
CELLS += ["--models", "xgboost,gradient_boosting,logistic_regression,multitask_tuned"]
COMPARED = {
    "predictions": "protocol, task, model, feature_set, seed, split, track_id, y_true, y_pred",
    "metrics": "protocol, task, model, feature_set, seed, split, slice, metric, value, ci_low, ci_high, n",
    "importance": "protocol, task, model, feature_set, seed, feature_name, importance",
}


@contextmanager
def dask(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler or a worker: it knows of no Prefect server and of no warehouse. Killed at the end."""
    own = clean_environment(PREFECT_HOME=str(folder / "prefect"), **environment)
    with (
        (folder / f"{arguments[0]}.log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments], env=own, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def scheduler(tmp_path) -> Iterator[str]:
    """The address of a scheduler; a cell whose worker dies twice is given up."""
    file = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    with dask(tmp_path, "scheduler", *options, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1"):
        until(file.exists)
        yield __import__("json").loads(file.read_text())["address"]


@contextmanager
def workers(folder: Path, scheduler: str, n: int, **environment: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
    with ExitStack() as stack:
        yield [stack.enter_context(dask(folder, "worker", scheduler, *options, **environment)) for _ in range(n)]


@pytest.mark.slow
def test_a_cluster_gets_the_same_results_though_a_worker_is_killed(
    environment, trained, scheduler, tmp_path
) -> None:
    home = Warehouse.at(environment["MUSIC_WAREHOUSE"])
    with workers(tmp_path, scheduler, 2) as (one, other):
        until(lambda: (tmp_path / "worker.log").read_text().count("Registered to") == 2)
        with started(environment, *CELLS, "--runner", "dask", "--dask-address", scheduler) as process:
            until(lambda: is_training(one) or is_training(other))
            doomed = one if is_training(one) else other
            family = psutil.Process(doomed.pid).children(recursive=True)
            doomed.kill()
            printed = process.communicate(timeout=120)[0]
    assert process.returncode == 0, printed
    assert "5 of 5 cells ok, 0 reused" in printed
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    for table, columns in COMPARED.items():
        select = f"select {columns} from results.{table} where model <> 'svm' and feature_set = 'all' order by all"
        here = query(trained, select)
        assert here
        assert query(home, select) == here


def is_training(worker: subprocess.Popen[bytes]) -> bool:
    """Whether a worker has a process that trains: a child of the server that its processes are forked from."""
    return any(child.children() for child in psutil.Process(worker.pid).children())

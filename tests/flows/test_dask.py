"""Cells on a Dask cluster of real processes: a scheduler, and workers that are killed while they train."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tasks.warehouse import Warehouse
from tests.flows.support import ROOT, clean_environment, query, started, until

pytestmark = pytest.mark.slow
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
    command = [sys.executable, "-m", "dask", *arguments]
    with (
        (folder / f"{arguments[0]}.log").open("ab") as log,
        subprocess.Popen(command, env=own, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler, and its two workers of one thread each."""
    folder = tmp_path_factory.mktemp("cluster")
    file, log = folder / "scheduler.json", folder / "worker.log"
    with ExitStack() as stack:
        address = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
        stack.enter_context(dask(folder, "scheduler", *address, "--no-dashboard"))
        until(lambda: file.exists() and file.read_text().strip())
        scheduler = json.loads(file.read_text())["address"]
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
        workers = [stack.enter_context(dask(folder, "worker", scheduler, *options)) for _ in range(2)]
        until(lambda: log.read_text().count("Registered to") == 2)
        yield scheduler, workers


def in_training(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that a worker trains cells in: children of the server that they are forked from."""
    return [cell for child in psutil.Process(worker.pid).children() for cell in child.children()]


def test_ctrl_c_ends_a_run_and_its_cells_on_the_workers(environment, cluster) -> None:
    scheduler, workers = cluster
    options = ["--source", "sample:20000", "--models", "mlp", "--feature-sets", "all", "--budget", "full"]
    with started(environment, *options, "--runner", "dask", "--dask-address", scheduler) as process:
        until(lambda: [cell for worker in workers for cell in in_training(worker) if cell.cpu_times().user > 1])
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=30)[0]
    assert process.returncode == 130
    assert "Interrupted. Finished cells are kept" in printed
    assert "Traceback" not in printed
    until(lambda: not any(map(in_training, workers)), seconds=10)  # far less than the cell would take
    home = Warehouse.at(environment["MUSIC_WAREHOUSE"])
    assert query(home, "select status from results.runs") == [("interrupted",)]
    assert not any((home.root / "cells").glob("*"))


def test_a_cluster_gets_the_same_results_though_a_worker_is_killed(environment, trained, cluster) -> None:
    scheduler, workers = cluster
    with started(environment, *CELLS, "--runner", "dask", "--dask-address", scheduler) as process:
        until(lambda: any(map(in_training, workers)))
        doomed = next(worker for worker in workers if in_training(worker))
        family = psutil.Process(doomed.pid).children(recursive=True)
        doomed.kill()
        printed = process.communicate(timeout=120)[0]
    assert process.returncode == 0, printed
    assert "5 of 5 cells ok, 0 reused" in printed
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    home = Warehouse.at(environment["MUSIC_WAREHOUSE"])
    for table, columns in COMPARED.items():
        select = f"select {columns} from results.{table} where model <> 'svm' and feature_set = 'all' order by all"
        here = query(trained, select)
        assert here
        assert query(home, select) == here

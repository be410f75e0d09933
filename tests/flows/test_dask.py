"""Cells on a Dask cluster of real processes: a scheduler, and workers that are killed while they train."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from flows.deployed import benchmark
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import dask_cluster, query, run, started, until

pytestmark = [pytest.mark.long, pytest.mark.alone]
CELLS = ["--source", "sample:3000", "--protocol", "cold_start", "--feature-sets", "all"]
CELLS += ["--models", "xgboost,gradient_boosting,logistic_regression,multitask_tuned"]
COMPARED = {
    "predictions": "protocol, task, model, feature_set, seed, split, track_id, y_true, y_pred",
    "metrics": "protocol, task, model, feature_set, seed, split, slice, metric, value, ci_low, ci_high, n",
    "importance": "protocol, task, model, feature_set, seed, feature_name, importance",
}


@pytest.fixture
def cluster(tmp_path_factory) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler, and its two workers of one thread each; one that is killed is gone for good."""
    with dask_cluster(tmp_path_factory.mktemp("cluster"), "--no-nanny") as found:
        yield found


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


def test_a_run_spreads_large_xgboost_models_and_nothing_else(prefect_server, cluster, tmp_path, monkeypatch) -> None:
    scheduler, _ = cluster
    monkeypatch.setattr("tasks.training.large_tables.LARGE_ROWS", 0)
    home = Warehouse.at(tmp_path)
    options = {"source": "sample:2000", "models": ["xgboost", "linear"], "feature_sets": ["all"]}
    options |= {"warehouse": str(tmp_path), "budget": "brief", "runner": "dask", "dask_address": scheduler}
    found = "select task, model, status, reused, n_train, params ->> 'dask_workers', cell_key from results.cells"
    runs = [
        query(home, f"{found} where run_id = '{benchmark(**options, spread=spread)}' order by all")
        for spread in (True, False, True)
    ]
    expected = [("genre", "xgboost", "2"), ("popularity", "linear", None), ("popularity", "xgboost", "2")]
    assert [row[:6] for row in runs[0]] == [(task, model, "ok", False, 1400, n) for task, model, n in expected]
    assert [(row[3], row[5]) for row in runs[1]] == [(False, None), (True, None), (False, None)]
    assert [row[:3] + row[4:] for row in runs[2]] == [row[:3] + row[4:] for row in runs[0]]
    assert all(row[3] for row in runs[2])
    assert len({row[-1] for cells in runs for row in cells}) == 5
    assert query(home, "select count(distinct model_path) from results.cells") == [(5,)]


def test_folds_on_a_cluster_have_the_figures_of_those_on_one_machine(prefect_server, cluster, tmp_path) -> None:
    scheduler, _ = cluster
    options = {"source": "sample:2000", "protocol": "cold_start", "models": ["xgboost", "linear"], "folds": 2}
    options |= {"feature_sets": ["all"], "budget": "brief"}
    found = []
    for name, runner in (("cluster", {"runner": "dask", "dask_address": scheduler}), ("here", {})):
        benchmark(**options, **runner, warehouse=str(tmp_path / name))
        pooled = "select task, model, metric, value, ci_low, ci_high, n from results.cross_validations order by all"
        found.append(query(Warehouse.at(tmp_path / name), pooled))
    assert [row[:3] for row in found[0]] == [row[:3] for row in found[1]]
    # But for the order in which DuckDB adds up genres.
    np.testing.assert_allclose(*([row[3:] for row in rows] for rows in found), rtol=1e-12)
    assert {row[:2] for row in found[0]} == {("genre", "xgboost"), ("popularity", "xgboost"), ("popularity", "linear")}


def test_models_are_spread_on_a_cluster_only(environment) -> None:
    done = run(environment, "--source", "sample:1000", "--spread")
    assert done.returncode == 1
    assert "--spread needs --runner dask" in done.stderr


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

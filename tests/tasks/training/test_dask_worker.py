"""Which clusters are refused and why, and what is made of a cell whose worker was lost."""

from __future__ import annotations

from types import SimpleNamespace

import dask
import pytest
from distributed import LocalCluster
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from tasks.compute import dask_client
from tasks.compute.processes import Outcome
from tasks.errors import UserError
from tasks.features.build import build_features
from tasks.ingest.read import ingest
from tasks.orchestration import prefect_tasks
from tasks.training.dask_worker import WorkerFacts, check_cluster, refusal, why_lost
from tasks.training.grid import plan_cells
from tasks.training.jobs import make_jobs
from tasks.training.train import train_cell

HERE = {"numpy": "2.4.0", "xgboost-cpu": "3.2.0", "training code": "a"}


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (WorkerFacts(HERE, has_warehouse=True), None),
        (
            WorkerFacts(HERE | {"numpy": "2.3.1"}, has_warehouse=True),
            "than this machine: numpy 2.3.1 for 2.4.0.",
        ),
        (
            WorkerFacts({"numpy": "2.4.0"} | {"training code": "b"}, has_warehouse=True),
            "xgboost-cpu is missing for 3.2.0.",
        ),
        (WorkerFacts(HERE | {"training code": "b"}, has_warehouse=True), "its training code differs"),
        (WorkerFacts(HERE, has_warehouse=False), "does not see the warehouse"),
        (ModuleNotFoundError("No module named 'tasks'"), "cannot run this project (No module named 'tasks')"),
    ],
)
def test_a_worker_that_would_get_other_results_is_refused(seen, reason, warehouse) -> None:
    found = refusal(HERE, seen, warehouse)
    assert found is None if reason is None else reason in found


@pytest.fixture
def own_cluster(tmp_path_factory) -> LocalCluster:
    with (
        dask.config.set(temporary_directory=str(tmp_path_factory.mktemp("dask"))),
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as one,
    ):
        yield one


def test_a_cluster_is_checked_before_it_is_used(own_cluster, warehouse, monkeypatch) -> None:
    assert check_cluster(own_cluster.scheduler_address, warehouse) == (1, 2)
    assert list((warehouse.root / "tmp").iterdir()) == []
    own_cluster.scale(0)
    own_cluster.sync(own_cluster._correct_state)
    with pytest.raises(UserError, match="the scheduler has no workers"):
        check_cluster(own_cluster.scheduler_address, warehouse)
    monkeypatch.setattr(dask_client, "CONNECT_SECONDS", 0.3)
    with pytest.raises(UserError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler answers there"):
        check_cluster("tcp://127.0.0.1:9", warehouse)


@pytest.mark.slow
def test_what_a_lost_worker_had_finished_counts(warehouse, monkeypatch) -> None:
    """Its process may still store the cell, before another worker starts on it or while it trains."""
    monkeypatch.setattr("tasks.orchestration.artifacts.tag_cell", id)
    cells = plan_cells(["published"], "smoke", ["linear", "ridge"], ["all"], [42])
    tables = build_features(ingest("sample:300", {}, 0.05, warehouse), "published", 5, warehouse)
    before, meanwhile = make_jobs(cells, tables, "lost", warehouse, 1)

    def fail() -> Outcome:
        return Outcome("failed", error="the folder is there")

    with pytest.raises(prefect_tasks.CellError, match="the folder is there"):
        prefect_tasks._trained(before, True, fail)
    train_cell(before)
    for refresh in (True, False):
        state = prefect_tasks._trained(before, refresh, fail)
        assert (state.data.result, state.data.reused) == (before.result, False)

    def lose_the_race() -> Outcome:
        train_cell(meanwhile)
        return fail()

    assert prefect_tasks._trained(meanwhile, True, lose_the_race).data.status == "ok"


def test_why_a_cell_was_lost() -> None:
    killed = KilledWorker("train", SimpleNamespace(address="tcp://10.0.0.1:4000"), 3)
    assert why_lost(killed) == "4 worker(s) died while training it, the last tcp://10.0.0.1:4000"
    assert why_lost(FutureCancelledError("train", "scheduler-connection-lost")) == (
        "its result was lost with the cluster (scheduler-connection-lost)"
    )

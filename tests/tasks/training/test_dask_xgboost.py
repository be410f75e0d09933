"""XGBoost fitted by two workers together: real processes, each with half of the rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import psutil
import pytest
from distributed import Client

from tasks.compute.processes import Outcome, Processes
from tasks.models.registry import spec_of
from tasks.specs import Cell
from tasks.storage.warehouse import Warehouse
from tasks.training import dask_xgboost, grid, large_tables, train
from tasks.training.jobs import Job, make_jobs
from tests.helpers.commands import dask_cluster, until

pytestmark = pytest.mark.slow

EXACT = {"max_bin": 2048, "subsample": 1.0, "colsample_bytree": 1.0}  # a bin a value, and every row for every tree


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[Client]:
    """Of a scheduler whose two workers are started anew if they die."""
    with (
        dask_cluster(tmp_path_factory.mktemp("spread")) as (address, _),
        Client(address, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def spread_job(sample_tables, shared_warehouse, client):
    def make(name: str, budget: str = "brief", **more: int) -> Job:
        task, model = name.split("/")
        cell = Cell(protocol="published", task=task, model=model, feature_set="all", seed=42, budget=budget)
        [job] = make_jobs([replace(cell, **more)], sample_tables, "spread", shared_warehouse, 1)
        return replace(job, cluster=client.scheduler.address)

    return make


def of_test_rows(job: Job, **settings: float) -> np.ndarray:
    """What a cell's model predicts: popularity, or each genre's probability."""
    spec = spec_of(job.cell)
    model = spec.build(spec.parameters_for(job.cell.budget), 42, 1).set_params(**settings)
    data = train.load(job)
    if job.cell.workers:
        dask_xgboost.fit(model, job)
    else:
        train.fit(model, spec, data)
    x = data.x["test"]
    return model.predict_proba(x) if job.cell.task == "genre" else model.predict(x)


def executed(client: Client) -> dict[str, int]:
    return client.run(lambda dask_worker: dask_worker.state.executed_count)


@pytest.mark.long
@pytest.mark.parametrize("name", ["popularity/xgboost", "genre/xgboost"])
def test_trees_are_those_of_one_process(name, spread_job, client) -> None:
    """With the same bins and no row left out, but for the order in which gradients are added up: they are floats."""
    before = executed(client)
    found = of_test_rows(spread_job(name, workers=2), **EXACT)
    assert all(n > before[worker] for worker, n in executed(client).items())
    np.testing.assert_allclose(found, of_test_rows(spread_job(name), **EXACT), rtol=1e-3)


@pytest.mark.long
def test_with_the_studys_settings_as_good_as_one_process_and_the_same_twice(spread_job, shared_warehouse) -> None:
    """Rows are drawn for a tree by each worker for itself, bins cut from merged sketches: other trees, no worse."""
    job = spread_job("popularity/xgboost", workers=2)
    found = of_test_rows(job)
    np.testing.assert_array_equal(of_test_rows(job), found)
    truth = train.load(job).y["popularity"]["test"]
    errors = [np.sqrt(np.mean((y - truth) ** 2)) for y in (found, of_test_rows(spread_job("popularity/xgboost")))]
    assert errors[0] == pytest.approx(errors[1], rel=0.05)
    assert errors[0] < 0.9 * truth.std()


@pytest.mark.parametrize("train_rows", [None, 600])
def test_shares_are_all_rows_once(spread_job, train_rows) -> None:
    job = spread_job("popularity/xgboost", workers=3, train_rows=train_rows)
    shares = [large_tables.share_of(job, number) for number in range(3)]
    assert min(len(y) for _, y in shares) > 0.25 * sum(len(y) for _, y in shares)
    whole = train.load(job)
    expected = np.column_stack([whole.x["train"], whole.y["popularity"]["train"]])
    found = np.vstack([np.column_stack(share) for share in shares])
    np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])


def test_only_xgboost_on_large_tables_is_spread_and_its_cells_are_others(
    spread_job, sample_tables, monkeypatch
) -> None:
    names = ("popularity/xgboost", "genre/xgboost_tuned", "popularity/linear", "genre/random_forest")
    cells = [spread_job(name).cell for name in names]
    assert grid.distributed(cells, sample_tables, 2) == cells
    monkeypatch.setattr(large_tables, "LARGE_ROWS", 1999)
    assert [cell.workers for cell in grid.distributed(cells, sample_tables, 2)] == [2, 2, None, None]
    assert len({spread_job("popularity/xgboost", **more).key for more in ({}, {"workers": 2}, {"workers": 3})}) == 3


@contextmanager
def training_of(job: Job) -> Iterator[Future[Outcome]]:
    """A cell in training, in a process of its own, which is killed when the block ends."""
    with ThreadPoolExecutor() as threads, Processes(threads=1, timeout=200) as processes:
        log = Warehouse.at(job.warehouse).temporary("log")
        yield threads.submit(processes.run, train.train_cell, job, log)


def wait_for_trees(client: Client) -> None:
    """Until both workers have read their rows, found each other, and grow trees."""
    fit = "fn-"  # what XGBoost calls it
    until(lambda: sum(any(str(key).startswith(fit) for key in keys) for keys in client.processing().values()) == 2)
    spent = {psutil.Process(pid): psutil.Process(pid).cpu_times().user for pid in client.run(os.getpid).values()}
    until(lambda: all(worker.cpu_times().user > before + 0.5 for worker, before in spent.items()))


def is_idle(client: Client) -> bool:
    """Whether a worker does anything, or the scheduler knows of anything to do."""
    n_tasks = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
    return n_tasks == 0 and not any(client.run(lambda dask_worker: dask_worker.state.executing_count).values())


@pytest.mark.long
def test_of_a_cell_that_is_ended_nothing_stays_behind_on_the_workers(spread_job, client) -> None:
    job = replace(spread_job("genre/xgboost_tuned", "full", workers=2), result="ended")
    with training_of(job) as ended:
        wait_for_trees(client)
        assert not ended.done()
    assert ended.result().status == "failed"
    until(lambda: is_idle(client), seconds=10)


@pytest.mark.long
def test_a_worker_that_dies_ends_the_cell_and_not_the_others(spread_job, client) -> None:
    job = replace(spread_job("popularity/xgboost", "full", workers=2), result="lost")
    with training_of(job) as ended:
        wait_for_trees(client)
        doomed, pid = next(iter(client.run(os.getpid).items()))
        psutil.Process(pid).kill()
        outcome = ended.result()
    assert (outcome.status, outcome.error) == (
        "failed",
        f"RuntimeError: worker {doomed} died while fitting its share of it",
    )
    until(lambda: is_idle(client), seconds=10)
    with training_of(replace(spread_job("popularity/xgboost", workers=2), result="again")) as ended:
        assert ended.result().status == "ok"

"""Distributed fit of XGBoost: several Dask workers fit one model together, each to its share of the rows.

Each worker reads its share from the warehouse, so no machine holds all rows, and no rows are sent. The workers add up
their histograms for each split of a tree, so all of them grow the same trees. The same number of workers gives the same
trees again. A fit in one process gives slightly different trees: here the bins come from merged sketches, each worker
draws the rows of a tree from its own share, and sums are added in another order.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import dask.array as da
import numpy as np
import xgboost
from distributed import get_worker
from xgboost import collective
from xgboost import dask as together

from tasks.compat import release_locks
from tasks.compute.dask_client import connected, current_worker
from tasks.models.xgboost import training_parameters
from tasks.training import large_tables
from tasks.training.jobs import Job, key_of

WAIT_SECONDS = 60  # for missing workers: a nanny restarts one within seconds
JOINING = collective.Config(tracker_timeout=WAIT_SECONDS)  # how long workers that connect wait for one that died


class WhileWanted(xgboost.callback.TrainingCallback):
    """An XGBoost callback that ends an abandoned fit on all its Dask workers, after the current tree."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - XGBoost's interface
        """Whether to stop the fit. All workers return the same answer."""
        _, is_wanted = current_worker()
        return bool(collective.allreduce(np.array([not is_wanted()], dtype=np.int32), collective.Op.MAX)[0])


def fit(estimator: Any, job: Job) -> None:
    """Fits XGBClassifier or XGBRegressor on Dask workers of the job's cluster, which should be idle.

    Raises: RuntimeError: a worker died or has other code. Other errors come from Dask and XGBoost.
    """
    with connected(job.cluster or "") as client, client.as_current():
        workers = _workers(client, job.cell.workers or 1)
        client.run_on_scheduler(_release_abandoned, workers)
        try:
            booster = _booster(client, estimator, job, workers)
        except Exception as error:
            if lost := set(workers) - set(client.scheduler_info()["workers"]):
                raise RuntimeError(f"worker {', '.join(sorted(lost))} died while fitting its share of it") from error
            raise
    estimator.load_model(booster.save_raw("ubj"))


def _workers(client: Any, n_workers: int) -> list[str]:
    """Returns the addresses of the workers that fit, in XGBoost's order, so that shares always go to the same ranks."""
    client.wait_for_workers(n_workers, timeout=WAIT_SECONDS)
    found = client.scheduler_info()["workers"]
    # The sort key of xgboost.dask.CommunicatorContext.
    return sorted(found, key=lambda address: f"[xgboost.dask-{found[address]['name']}]:{address}")[:n_workers]


def _release_abandoned(workers: list[str], dask_scheduler: Any) -> None:
    """Releases XGBoost's locks on idle workers. A process that was killed does not release its lock."""
    if not any(dask_scheduler.workers[worker].processing for worker in workers):
        release_locks(dask_scheduler, workers)


def _booster(client: Any, estimator: Any, job: Job, workers: list[str]) -> xgboost.Booster:
    placed = {"allow_other_workers": True, "pure": False}  # else the share of a worker that died would wait for it
    shares = [client.submit(_share, job, n, worker, workers=[worker], **placed) for n, worker in enumerate(workers)]
    x, y = ([client.submit(itemgetter(part), share) for share in shares] for part in (0, 1))
    parameters = training_parameters(estimator, lambda: _count_classes(client, y))
    del parameters["n_jobs"]  # each worker uses its own number of threads
    data = together.DaskQuantileDMatrix(client, _array(client, x), _array(client, y), max_bin=estimator.max_bin)
    if len(data.worker_map) < len(workers):  # Dask may have moved a share
        raise RuntimeError(f"only {len(data.worker_map)} of {len(workers)} workers have kept their rows")
    options = {"callbacks": [WhileWanted()], "coll_cfg": JOINING}
    found = together.train(client, parameters, data, estimator.get_num_boosting_rounds(), **options)
    booster: xgboost.Booster = found["booster"]
    return booster


def _share(job: Job, number: int, address: str) -> tuple[np.ndarray, np.ndarray]:
    if get_worker().address != address:
        raise RuntimeError(f"worker {address} died")
    if key_of(job.cell, job.feature_version) != job.key:
        raise RuntimeError("a worker has other libraries or code than the flow")
    return large_tables.share_of(job, number)


def _count_classes(client: Any, y: list[Any]) -> int:
    return len(np.unique(np.concatenate(client.gather([client.submit(np.unique, part) for part in y]))))


def _array(client: Any, parts: list[Any]) -> da.Array:
    """Returns one Dask array of arrays that lie on workers."""
    shapes = client.gather([client.submit(np.shape, part) for part in parts])
    arrays = [da.from_delayed(*one, np.float32) for one in zip(parts, shapes, strict=True)]  # type: ignore[no-untyped-call]
    return da.concatenate(arrays)  # type: ignore[no-untyped-call]

"""XGBoost fitted by all workers of a Dask cluster together, each to its share of the rows: its Dask interface.

A worker reads its share from the warehouse itself, so that no machine holds all rows, and none are sent. Trees are
grown in step: the workers add up their histograms for each split, so that all get the same trees. Those of one process
differ by the bins, cut from merged sketches here, by the rows drawn for a tree, each worker's own, and by the order of
sums. The same number of workers gives the same trees again.
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
from tasks.training.cell_key import cell_key
from tasks.training.jobs import Job

WAIT_SECONDS = 60  # for workers that are missing: a nanny starts one anew within seconds
JOINING = collective.Config(tracker_timeout=WAIT_SECONDS)  # and for one that dies while they find each other


class WhileWanted(xgboost.callback.TrainingCallback):
    """Ends a fit that nobody waits for any more, on all its workers, after the tree that they are at."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - what XGBoost gives
        """Whether to stop; every worker gives the same answer."""
        _, is_wanted = current_worker()
        return bool(collective.allreduce(np.array([not is_wanted()], dtype=np.int32), collective.Op.MAX)[0])


def fit(estimator: Any, job: Job) -> None:
    """Fit XGBClassifier or XGBRegressor on the workers of the job's cluster; they should have nothing else to do.

    Raises: RuntimeError: a worker died, or has other code. Whatever Dask and XGBoost raise, also for too few workers.
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
    """The addresses of those that are to fit, ordered as XGBoost will: the first has the first share each time."""
    client.wait_for_workers(n_workers, timeout=WAIT_SECONDS)
    found = client.scheduler_info()["workers"]
    # By what xgboost.dask.CommunicatorContext tells them apart.
    return sorted(found, key=lambda address: f"[xgboost.dask-{found[address]['name']}]:{address}")[:n_workers]


def _release_abandoned(workers: list[str], dask_scheduler: Any) -> None:
    """Release XGBoost's locks on workers that nobody waits for: a process that is killed takes its lock with it."""
    if not any(dask_scheduler.workers[worker].processing for worker in workers):
        release_locks(dask_scheduler, workers)


def _booster(client: Any, estimator: Any, job: Job, workers: list[str]) -> xgboost.Booster:
    placed = {"allow_other_workers": True, "pure": False}  # or the share of a worker that died would wait for it
    shares = [client.submit(_share, job, n, worker, workers=[worker], **placed) for n, worker in enumerate(workers)]
    x, y = ([client.submit(itemgetter(part), share) for share in shares] for part in (0, 1))
    parameters = training_parameters(estimator, lambda: _count_classes(client, y))
    del parameters["n_jobs"]  # a worker uses as many threads as it has
    data = together.DaskQuantileDMatrix(client, _array(client, x), _array(client, y), max_bin=estimator.max_bin)
    if len(data.worker_map) < len(workers):  # Dask may move what it likes
        raise RuntimeError(f"only {len(data.worker_map)} of {len(workers)} workers have kept their rows")
    options = {"callbacks": [WhileWanted()], "coll_cfg": JOINING}
    found = together.train(client, parameters, data, estimator.get_num_boosting_rounds(), **options)
    booster: xgboost.Booster = found["booster"]
    return booster


def _share(job: Job, number: int, address: str) -> tuple[np.ndarray, np.ndarray]:
    if get_worker().address != address:
        raise RuntimeError(f"worker {address} died")
    if cell_key(job.cell, job.feature_version) != job.key:
        raise RuntimeError("a worker has other libraries or code than the flow")
    return large_tables.share_of(job, number)


def _count_classes(client: Any, y: list[Any]) -> int:
    return len(np.unique(np.concatenate(client.gather([client.submit(np.unique, part) for part in y]))))


def _array(client: Any, parts: list[Any]) -> da.Array:
    """Arrays on workers as one, part by part."""
    shapes = client.gather([client.submit(np.shape, part) for part in parts])
    arrays = [da.from_delayed(*one, np.float32) for one in zip(parts, shapes, strict=True)]  # type: ignore[no-untyped-call]
    return da.concatenate(arrays)  # type: ignore[no-untyped-call]

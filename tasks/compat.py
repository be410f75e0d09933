"""The only place that uses private interfaces of libraries.

Each has a test in `tests/tasks/test_compat.py`, which fails when an upgrade of the library removes it. There is one
exception: tasks/models/estimators/faster_mlp.py overrides scikit-learn's `MLPClassifier._fit_stochastic`.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Collection
from multiprocessing import forkserver
from typing import Any

fork_server: Any = forkserver._forkserver  # the one that multiprocessing itself uses


def leave_fork_server() -> None:
    """Closes, in a child process, the file descriptor that would keep the fork server alive."""
    if fork_server._forkserver_alive_fd is not None:
        os.close(fork_server._forkserver_alive_fd)
        fork_server._forkserver_alive_fd = None


def allow_children() -> None:
    """Lets a daemonic process, such as a Dask worker under its nanny, have children; they still end with it."""
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]


def decrease_of_impurity(forest: Any) -> Any | None:
    """Returns the feature importances of a scikit-learn-intelex forest; None for a forest of scikit-learn itself.

    `feature_importances_` would first convert a thousand trees to scikit-learn's format, which takes 10 s and 3 GB.
    """
    trained = getattr(forest, "_onedal_estimator", None)
    return None if trained is None else trained.var_importance_


def release_locks(dask_scheduler: Any, workers: Collection[str]) -> None:
    """Releases the locks that XGBoost's Dask interface holds on workers; runs in the scheduler's process."""
    locks = dask_scheduler.extensions["multi_locks"]
    for owner in [owner for owner, locked in locks.requests.items() if locked & set(workers)]:
        locks.release(owner)

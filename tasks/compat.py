"""What libraries do not offer in public, and this project uses: reached here alone.

Each has a test in `tests/tasks/test_compat.py`, which fails by its name when an upgrade has taken it away. One more is
overridden where it is used: scikit-learn's `MLPClassifier._fit_stochastic` (tasks/models/estimators/faster_mlp.py).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Collection
from multiprocessing import forkserver
from typing import Any

fork_server: Any = forkserver._forkserver  # the one that multiprocessing itself uses


def leave_fork_server() -> None:
    """In a child: close what, held by a child, would keep the server alive."""
    if fork_server._forkserver_alive_fd is not None:
        os.close(fork_server._forkserver_alive_fd)
        fork_server._forkserver_alive_fd = None


def allow_children() -> None:
    """Let a daemonic process (a Dask worker under its nanny is one) have children: these end with it all the same."""
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]


def decrease_of_impurity(forest: Any) -> Any | None:
    """By feature, what scikit-learn-intelex has of training; None: the forest is scikit-learn's own.

    Its `feature_importances_` would turn a thousand trees into scikit-learn's first, which takes 10 s and 3 GB.
    """
    trained = getattr(forest, "_onedal_estimator", None)
    return None if trained is None else trained.var_importance_


def release_locks(dask_scheduler: Any, workers: Collection[str]) -> None:
    """Release the locks that XGBoost's Dask interface holds on workers, in the scheduler's process."""
    locks = dask_scheduler.extensions["multi_locks"]
    for owner in [owner for owner, locked in locks.requests.items() if locked & set(workers)]:
        locks.release(owner)

"""The only place that uses private interfaces of libraries.

Each has a test in `tests/tasks/test_compat.py`, which fails when an upgrade of the library removes it. There is one
exception: tasks/models/estimators/faster_mlp.py overrides scikit-learn's `MLPClassifier._fit_stochastic`.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Collection, Iterator
from multiprocessing import forkserver
from typing import Any

import numpy as np

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


def trees_of(forest: Any) -> Iterator[Any]:
    """Yields the trees of a fitted scikit-learn-intelex regressor as scikit-learn's, each made when it is asked for.

    `estimators_` would hold all of them at once, which takes 3 GB for a thousand trees.
    """
    from onedal.primitives import get_tree_state_reg
    from sklearn.tree._tree import Tree
    from sklearnex.ensemble import _forest

    for number in range(forest.n_estimators):
        state = get_tree_state_reg(forest._onedal_estimator._onedal_model, number, 1)
        more = _forest._tree_extra_args(forest.n_features_in_)
        tree = Tree(forest.n_features_in_, np.array([1], dtype=np.intp), 1, *more)
        nodes = _forest._map_node_ar_to_sklearn(state.node_ar)
        tree.__setstate__(
            {"max_depth": state.max_depth, "node_count": state.node_count, "nodes": nodes, "values": state.value_ar}
        )
        yield tree


def release_locks(dask_scheduler: Any, workers: Collection[str]) -> None:
    """Releases the locks that XGBoost's Dask interface holds on workers; runs in the scheduler's process."""
    locks = dask_scheduler.extensions["multi_locks"]
    for owner in [owner for owner, locked in locks.requests.items() if locked & set(workers)]:
        locks.release(owner)

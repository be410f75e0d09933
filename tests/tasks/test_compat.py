"""Names that libraries do not promise: an upgrade that takes one away fails here, by its name."""

from __future__ import annotations

import importlib.util
import inspect
import multiprocessing
from multiprocessing import forkserver
from types import SimpleNamespace

import numpy as np
import pytest

from tasks import compat


def test_multiprocessing_has_its_fork_server() -> None:
    assert compat.fork_server is forkserver._forkserver
    assert hasattr(compat.fork_server, "_forkserver_alive_fd")
    assert callable(compat.fork_server.ensure_running)


def test_multiprocessing_says_in_config_that_a_process_is_daemonic() -> None:
    assert isinstance(multiprocessing.current_process()._config, dict)
    assert "daemon" in multiprocessing.Process(daemon=True)._config


def test_scikit_learn_trains_its_perceptron_by_fit_stochastic() -> None:
    from sklearn.neural_network import MLPClassifier

    names = list(inspect.signature(MLPClassifier._fit_stochastic).parameters)
    assert names[:3] == ["self", "X", "y"]
    assert names[-1] == "incremental"


@pytest.mark.skipif(not importlib.util.find_spec("sklearnex"), reason="scikit-learn-intelex has no wheel here")
def test_intelex_forests_keep_the_decrease_of_impurity() -> None:
    from sklearnex.ensemble import RandomForestClassifier

    x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    forest = RandomForestClassifier(n_estimators=5, random_state=0).fit(x, (x[:, 1] > 0).astype(int))
    found = np.asarray(compat.decrease_of_impurity(forest))
    assert found.shape == (3,)
    assert found.argmax() == 1


@pytest.mark.skipif(not importlib.util.find_spec("sklearnex"), reason="scikit-learn-intelex has no wheel here")
def test_an_intelex_forest_gives_its_trees_one_by_one() -> None:
    from tasks.models.estimators.intelex_forest import IntelexForestRegressor

    draws = np.random.default_rng(0)
    x = draws.normal(size=(400, 3)).astype(np.float32)
    forest = IntelexForestRegressor(n_estimators=7, random_state=0).fit(x, x[:, 1] + draws.normal(size=400))
    one_by_one = [tree.predict(x).ravel() for tree in compat.trees_of(forest)]
    assert np.array_equal(one_by_one, [tree.predict(x) for tree in forest.estimators_])
    assert forest.predict(x) == pytest.approx(np.mean(one_by_one, axis=0), rel=1e-12)
    assert forest.predict(x) == pytest.approx(super(IntelexForestRegressor, forest).predict(x), rel=1e-5)


def test_forests_of_scikit_learn_have_none() -> None:
    assert compat.decrease_of_impurity(SimpleNamespace()) is None


def test_dasks_scheduler_keeps_locks_on_workers() -> None:
    multi_lock = pytest.importorskip("distributed.multi_lock")
    source = inspect.getsource(multi_lock.MultiLockExtension)
    assert "self.requests" in source
    assert callable(multi_lock.MultiLockExtension.release)
    scheduler = pytest.importorskip("distributed.scheduler")
    assert scheduler.DEFAULT_EXTENSIONS["multi_locks"] is multi_lock.MultiLockExtension

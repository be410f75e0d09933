"""Subnormal numbers count as 0 where cells train, and nowhere else; figures stay as they are."""

from __future__ import annotations

import platform
import sys
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.compute.subnormals import REGISTERS, flushed_to_zero
from tasks.models.mlp import mlp
from tasks.training import train

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in REGISTERS, reason="the control register cannot be reached here"
)
LEAST = np.finfo(np.float64).tiny  # the smallest normal number


def product() -> float:
    """Of two numbers that is subnormal, computed by the processor, not by Python's compiler."""
    return float((np.full(100, LEAST) * 0.5).max())


def test_they_are_0_within_the_block_and_in_threads_started_there() -> None:
    with flushed_to_zero():
        found = [product()]
        thread = threading.Thread(target=lambda: found.append(product()))
        thread.start()
        thread.join()
        with flushed_to_zero():
            found.append(product())
        found.append(product())
        assert found == [0.0] * 4
    assert product() == LEAST / 2


def test_the_former_state_is_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), flushed_to_zero():
        1 / 0  # noqa: B018
    assert product() == LEAST / 2


def test_a_cells_model_is_fitted_and_predicts_without_them_and_its_scores_are_computed_with_them() -> None:
    seen = []
    estimator = SimpleNamespace(
        fit=lambda *_: seen.append(product()), predict=lambda _: seen.append(product()) or np.zeros(3)
    )
    spec = SimpleNamespace(
        task="popularity", watches_validation=False, cross_fits=False, fit_out_of_core=None, targets=("popularity",)
    )
    x = np.zeros((3, 2))
    data = SimpleNamespace(x={"train": x, "val": x}, y={"popularity": {"train": x[:, 0], "val": x[:, 0]}})
    train.fit(estimator, spec, data)
    train.predict_all(estimator, spec, x, 2)
    assert seen == [0.0, 0.0]
    assert product() == LEAST / 2


def test_a_net_whose_weights_get_there_learns_the_same() -> None:
    """As those of a unit that never fires: regularization alone changes them, and makes them smaller and smaller."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 4))
    x[:, 3] = 0.0
    y = (x[:, 0] * x[:, 1] > 0).astype(int) + (x[:, 2] > 1)
    fitted = []
    for within in (flushed_to_zero, warnings.catch_warnings):
        net = mlp(
            {"hidden_layer_sizes": (16, 8), "max_iter": 5, "batch_size": 32, "warm_start": True, "alpha": 1e-3}, 42, 1
        )
        with within(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged
            net.fit(x, y)
            net.coefs_[0][3] = 2 * LEAST
            net.set_params(max_iter=10).fit(x, y)
        fitted.append(net)
    flushed, plain = fitted
    assert (plain.coefs_[0][3] < LEAST).all()
    assert (flushed.coefs_[0][3] >= LEAST).all()  # the change of the weight would be subnormal
    assert flushed.loss_ == pytest.approx(plain.loss_, rel=1e-12)
    assert np.array_equal(flushed.predict(x), plain.predict(x))
    np.testing.assert_allclose(flushed.predict_proba(x), plain.predict_proba(x), rtol=1e-9)

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tasks.compute.processes import Processes
from tasks.models.estimators.nets import piecewise_linear
from tasks.models.registry import MODELS
from tests.helpers.amounts import mostly_long

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras on NumPy 2
]


def data(n=600) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    x = {split: random.standard_normal((n, 4)) for split in ("train", "val")}
    genre = {split: (rows[:, 0] > 0).astype(np.int64) + (rows[:, 1] > 0.5) for split, rows in x.items()}
    return x, genre, {split: 50.0 + 10.0 * rows[:, 2] for split, rows in x.items()}


def fitted(name, settings, *targets, x):
    spec = MODELS[name]
    net = spec.build({**spec.parameters, **settings}, 7, 1)
    net.fit(x, *targets)
    return net


def predictions(named: tuple[str, dict]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What a net predicts of the validation rows, and its probabilities."""
    x, genre, popularity = data()
    net = fitted(f"multitask/{named[0]}", named[1], genre, popularity, x=x)
    return net.predict(x["val"]), net.predict_proba(x["val"])


STORED = ("multitask/multitask_tuned", {"members": 2})
TUNED = ("single_head_tuned", {"epochs": 2, "members": 1})


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "settings"), [("multitask", {"epochs": 8}), ("multitask_tuned", {"epochs": 8, "members": 2})]
)
def test_a_net_learns_both_tasks_the_same_way_twice(name, settings, warehouse) -> None:
    """In processes of their own, as cells are: Keras takes its seeds from Python's, which other threads draw from."""
    _, genre, _ = data()
    with Processes(threads=1, timeout=300) as processes:
        outcomes = [processes.run(predictions, (name, settings), warehouse.temporary("log")) for _ in range(2)]
    assert [outcome.error for outcome in outcomes] == [None, None]
    (predicted, probabilities), (again, _) = (outcome.value for outcome in outcomes)
    np.testing.assert_array_equal(predicted["genre"], again["genre"])
    np.testing.assert_array_equal(predicted["popularity"], again["popularity"])
    assert (predicted["genre"] == genre["val"]).mean() > 0.5
    assert probabilities.shape == (600, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), predicted["genre"])


@pytest.mark.parametrize(("name", "settings"), mostly_long([("single_head_net", {"epochs": 2}), TUNED], TUNED))
def test_a_net_with_one_head_predicts_as_single_task_estimators_do(name, settings) -> None:
    x, genre, popularity = data()
    codes = fitted(f"genre/{name}", settings, genre, x=x).predict(x["val"])
    points = fitted(f"popularity/{name}", settings, popularity, x=x).predict(x["val"])
    assert codes.shape == points.shape == (600,)
    assert set(codes.tolist()) <= {0, 1, 2}


def test_the_better_net_learns_popularity_in_points() -> None:
    x, _, popularity = data()
    settings = {"epochs": 30, "members": 1, "dropout": 0.0}
    points = fitted("popularity/single_head_tuned", settings, popularity, x=x).predict(x["val"])
    assert np.sqrt(np.mean((points - popularity["val"]) ** 2)) < 5.0


def test_the_better_net_predicts_the_mean_of_members_that_differ() -> None:
    x, genre, popularity = data()
    net = fitted("multitask/multitask_tuned", {"epochs": 2, "members": 3, "width": 32}, genre, popularity, x=x)
    [averaged] = [layer for layer in net._trained.layers if layer.name.startswith("functional")]
    members = [layer for layer in averaged.layers if type(layer).__name__ == "EinsumDense"]
    import keras

    outputs = keras.Model(averaged.inputs, [layer.output for layer in members]).predict(x["val"], verbose=0)
    [by_member] = [found for found in outputs if found.shape[2] == 3]
    assert by_member.shape == (600, 3, 3)
    assert np.abs(by_member - by_member[:, :1]).max() > 0.01
    np.testing.assert_allclose(by_member.mean(axis=1), net.predict_proba(x["val"]), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "settings"),
    mostly_long(
        [("multitask/multitask", {}), ("popularity/single_head_net", {}), STORED],
        STORED,
    ),
)
def test_a_saved_net_predicts_the_same_as_in_keras(name, settings, tmp_path) -> None:
    import keras

    x, genre, popularity = data()
    targets = [popularity] if name.startswith("popularity") else [genre, popularity]
    net = fitted(name, {"epochs": 1, **settings}, *targets, x=x)
    net.save(tmp_path / "model.keras")
    by_keras = keras.models.load_model(tmp_path / "model.keras").predict(x["val"].astype(np.float32), verbose=0)
    stored = MODELS[name].build({**MODELS[name].parameters, **settings}, 7, 1)
    stored.load(tmp_path / "model.keras")
    for head, values in net.outputs(x["val"]).items():
        np.testing.assert_array_equal(values, stored.outputs(x["val"])[head])
        np.testing.assert_allclose(by_keras[head].reshape(values.shape), values, rtol=1e-5)


def test_a_rows_prediction_depends_on_no_other_row() -> None:
    """To the last bit where BLAS computes with AVX-512, whatever the number of rows and of threads."""
    x, genre, popularity = data(1300)
    net = fitted("multitask/multitask_tuned", {"epochs": 1, "members": 8}, genre, popularity, x=x)
    kernels = {one["architecture"] for one in threadpool_info() if one["user_api"] == "blas"}
    is_exact = kernels <= {"SkylakeX", "Cooperlake", "SapphireRapids"}
    every = net.outputs(x["val"])
    net.threads = 2
    for rows in (slice(0, 1), slice(7, 12), slice(100, 131), slice(3, 900), *(slice(n, n + 1) for n in range(40))):
        for head, values in net.outputs(x["val"][rows]).items():
            np.testing.assert_allclose(values, every[head][rows], rtol=0.0 if is_exact else 1e-5)
    assert [net.outputs(x["val"][:0])[head].shape for head in every] == [(0, 3), (0,)]


@pytest.mark.long
def test_a_net_keeps_its_losses() -> None:
    x, genre, popularity = data()
    for name, settings in (("multitask", {}), ("multitask_tuned", {"members": 2})):
        net = fitted(f"multitask/{name}", {"epochs": 3, **settings}, genre, popularity, x=x)
        assert [(kept.member, kept.epoch) for kept in net.history] == [(1, 1), (1, 2), (1, 3)]
        assert net.history[2].loss < net.history[0].loss
        assert net.history[2].val_loss < net.history[0].val_loss


def test_encodings_say_how_far_into_each_bin_a_value_is() -> None:
    x = np.column_stack([np.linspace(0.0, 8.0, 81), np.tile([0.0, 1.0, 5.0], 27)])
    kernel, bias = piecewise_linear(x, 4)
    encoded = np.clip(np.array([[3.0, 1.0], [9.0, -1.0], [8.0, 3.0]]) @ kernel + bias, 0.0, 1.0)
    np.testing.assert_allclose(encoded, [[1, 0.5, 0, 0, 1, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0.5]], atol=1e-6)


def test_a_constant_feature_has_no_encoding() -> None:
    kernel, bias = piecewise_linear(np.column_stack([np.ones(9), np.arange(9.0)]), 4)
    assert kernel.shape == (2, 4)
    assert bias.shape == (4,)

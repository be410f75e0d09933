from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluation import calibration, metrics


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(truth) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(20_000, 5)) * 2
    labels = (softmax(logits / truth).cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    assert calibration.temperature(labels, softmax(logits)) == pytest.approx(truth, rel=0.05)


def test_calibration_never_raises_the_loss_it_is_fitted_on_and_keeps_the_order() -> None:
    random = np.random.default_rng(2)
    probabilities = random.dirichlet(np.ones(4), 500)
    probabilities[:100] = np.eye(4)[random.integers(4, size=100)]  # as a forest may be: quite sure
    labels = random.integers(4, size=500)
    found = calibration.temperature(labels, probabilities)
    after = calibration.tempered(probabilities, found)
    assert metrics.log_losses(labels, after).mean() <= metrics.log_losses(labels, probabilities).mean()
    np.testing.assert_allclose(after.sum(axis=1), 1.0)
    assert (np.diff(np.take_along_axis(after, probabilities.argsort(axis=1), axis=1), axis=1) >= 0).all()


def test_intervals_cover_as_often_as_they_say() -> None:
    """Over many draws of validation and new rows: between 90 % and 90 % + 1 / (n + 1), as Lei et al. prove."""
    random = np.random.default_rng(3)
    n, covered = 19, []
    for _ in range(4_000):
        residuals = random.standard_t(3, size=n + 1)  # heavy tails: nothing is assumed of their distribution
        covered.append(abs(residuals[-1]) <= calibration.margin(residuals[:-1], np.zeros(n)))
    assert 0.885 < np.mean(covered) < 0.965
    sharp = [
        abs(random.normal()) <= calibration.margin(random.normal(size=n), np.zeros(n), coverage=0.5)
        for _ in range(4_000)
    ]
    assert np.mean(sharp) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("n", "rank"), [(9, 9), (19, 18), (99, 90), (100, 91)])
def test_the_quantile_is_that_of_a_finite_sample(n, rank) -> None:
    assert calibration.margin(np.arange(1.0, n + 1), np.zeros(n)) == rank


def test_too_few_rows_promise_nothing() -> None:
    half_width = calibration.margin(np.zeros(8), np.ones(8))
    assert half_width == np.inf
    low, high = calibration.prediction_interval(np.array([50.0]), half_width)
    assert (low[0], high[0]) == (0.0, 100.0)


def test_the_interval_of_a_share_is_wider_where_rows_hang_together() -> None:
    random = np.random.default_rng(4)
    units = np.repeat(np.arange(200), 10)
    hits = np.repeat(random.random(200) < 0.9, 10)
    together, alone = calibration.share(hits, units), calibration.share(hits, np.arange(2_000))
    assert together[0] == alone[0] == hits.mean()
    assert (together[2] - together[1]) / (alone[2] - alone[1]) == pytest.approx(np.sqrt(10), rel=0.01)


def test_familiar_rows_are_within_range_and_distance() -> None:
    random = np.random.default_rng(5)
    z_scores = random.normal(size=(5_000, 3))
    z_scores[:, 2] = z_scores[:, 1] + 0.1 * random.normal(size=5_000)
    rows = calibration.familiarity(["a", "b", "c"], z_scores)
    values = {(row["feature_name"], row["statistic"]): row["value"] for row in rows}
    axes = np.array([[values[name, f"axis{k}"] for k in (1, 2, 3)] for name in "abc"])
    distance = ((z_scores @ axes) ** 2).sum(axis=1)
    centred = z_scores - z_scores.mean(axis=0)
    expected = np.einsum("ij,jk,ik->i", z_scores, np.linalg.inv(centred.T @ centred / 5_000), z_scores)
    np.testing.assert_allclose(distance, expected)
    assert (distance > values[None, "limit"]).mean() == pytest.approx(0.001)
    assert values["a", "low"] == z_scores[:, 0].min()

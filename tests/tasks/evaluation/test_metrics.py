from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.evaluation import metrics
from tasks.specs import METRICS


def test_classification_metrics_by_hand() -> None:
    scores = metrics.score("genre", np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    assert scores["accuracy"] == 0.75
    assert scores["precision_macro"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["recall_macro"] == pytest.approx((0.5 + 1) / 2)
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 0.8) / 2)


def test_regression_metrics_by_hand() -> None:
    scores = metrics.score("popularity", np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0]))
    assert scores["rmse"] == pytest.approx(math.sqrt(4 / 3))
    assert scores["mae"] == pytest.approx(2 / 3)
    assert scores["r2"] == pytest.approx(1 - 4 / 2)
    assert scores["spearman"] == 1.0


def test_every_metric_is_computed_and_a_mean_names_its_function() -> None:
    two, shares = np.array([0, 1]), np.eye(2)
    found = [*metrics.score("genre", two, two), *metrics.probability_scores(two, shares)]
    found += metrics.score("popularity", two, two)
    assert sorted(found) == sorted(METRICS)
    for metric in METRICS.values():
        assert not metric.mean_of or callable(getattr(metrics, metric.mean_of))


def test_a_constant_has_no_rank_correlation() -> None:
    assert math.isnan(metrics.spearman(np.array([1.0, 2.0]), np.array([3.0, 3.0])))
    assert math.isnan(metrics.score("popularity", np.array([1.0]), np.array([1.0]))["r2"])


def test_confusion_counts_every_genre() -> None:
    counts = metrics.confusion(np.array([0, 2]), np.array([2, 2]), 3)
    assert counts.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 1]]


def test_only_the_feature_that_is_used_is_important() -> None:
    x = np.random.default_rng(0).standard_normal((500, 3))
    y = (x[:, 1] > 0).astype(int)
    losses = metrics.permutation_importance(lambda rows: {"genre": (rows[:, 1] > 0).astype(int)}, x, {"genre": y}, 1)
    assert losses["genre"][[0, 2]].tolist() == [0.0, 0.0]
    assert losses["genre"][1] == pytest.approx(0.5, abs=0.06)


def test_errors_of_each_bucket_that_has_rows() -> None:
    y_true = np.array([95.0, 100.0, 9.0])
    rows = metrics.errors_by_bucket(
        y_true, np.array([90.0, 92.0, 19.0]), metrics.popularity_band(y_true), metrics.POPULARITY_BANDS
    )
    assert [(row["bucket"], row["n"], row["mae"], row["bias"]) for row in rows] == [
        ("0 to 9", 1, 10.0, 10.0),
        ("90 to 100", 2, 6.5, -6.5),
    ]
    assert [row["rmse"] for row in rows] == [10.0, pytest.approx(math.sqrt((25 + 64) / 2))]
    assert metrics.popularity_band(np.array([0.0, 10.0, 39.5, 89.0])).tolist() == [0, 1, 3, 8]


def test_rows_have_the_same_digest_in_any_order_and_others_another() -> None:
    digest = metrics.digest_of_rows(np.array([3, 1, 2]))
    assert digest == metrics.digest_of_rows(np.array([1, 2, 3], dtype=np.int32))
    assert digest not in {metrics.digest_of_rows(np.array(other)) for other in ([1, 2], [1, 2, 4], [1, 2, 3, 3])}

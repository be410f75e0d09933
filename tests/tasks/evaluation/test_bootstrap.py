from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from tasks.evaluation import bootstrap
from tasks.evaluation import metrics as scoring
from tasks.evaluation.bootstrap import WeightedSpearman, _resamples, percentile_interval, replicates
from tasks.evaluation.comparisons import contrast

EVERYONE = "all"


def whole(n: int) -> dict[str, np.ndarray]:
    return {EVERYONE: np.ones(n, dtype=bool)}


def test_a_replicate_is_the_metric_of_the_resampled_rows() -> None:
    """Each row drawn as often as its weight, scored by scikit-learn and SciPy, gives the replicate."""
    random = np.random.default_rng(0)
    n = 400
    genre, popularity = random.integers(0, 6, n), random.integers(0, 30, n).astype(float)
    shares = random.dirichlet(np.ones(6), n) + 0.4 * np.eye(6)[genre]
    shares /= shares.sum(axis=1, keepdims=True)
    guess = shares.argmax(axis=1)
    points = popularity + random.normal(0, 20, n).round()
    observed = random.random(n) < 0.7
    slices = whole(n) | {"observed": observed}
    units = random.integers(0, 90, n)
    found = replicates("genre", genre, guess, shares, slices, units, 5)
    found |= replicates("popularity", popularity, points, None, slices, units, 5)
    distinct, unit = np.unique(units, return_inverse=True)
    [weights] = bootstrap._resamples(distinct, n, 5)
    for name, chosen in slices.items():
        for number, weight in enumerate(weights.T):
            rows = np.repeat(np.arange(n), (weight[unit] * chosen).astype(int))
            expected = scoring.score("genre", genre[rows], guess[rows])
            expected |= scoring.probability_scores(genre[rows], shares[rows])
            expected |= scoring.score("popularity", popularity[rows], points[rows])
            for metric, value in expected.items():
                assert found[name, metric][number] == pytest.approx(value, rel=1e-4), (name, metric)


def test_blocks_do_not_change_the_replicates(monkeypatch) -> None:
    y = np.random.default_rng(1).normal(size=(2, 50))
    one = replicates("popularity", *y, None, whole(50), np.arange(50), 30)
    monkeypatch.setattr(bootstrap, "BLOCK", 200)
    other = replicates("popularity", *y, None, whole(50), np.arange(50), 30)
    for key, values in one.items():
        np.testing.assert_allclose(values, other[key], rtol=1e-5)


def test_the_same_rows_see_the_same_resamples() -> None:
    random = np.random.default_rng(2)
    y_true = random.normal(size=200)
    y_pred = y_true + random.normal(size=200)
    order = random.permutation(200)
    one = replicates("popularity", y_true, y_pred, None, whole(200), np.arange(200), 50)
    other = replicates("popularity", y_true[order], y_pred[order], None, whole(200), order, 50)
    for key, values in one.items():
        np.testing.assert_allclose(values, other[key], rtol=1e-3)


def test_probability_scores_are_scikit_learns() -> None:
    random = np.random.default_rng(3)
    genre, shares = random.integers(0, 5, 300), random.dirichlet(np.ones(5), 300)
    scores = scoring.probability_scores(genre, shares)
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(genre, shares))
    assert scores["top3_accuracy"] == pytest.approx(metrics.top_k_accuracy_score(genre, shares, k=3))
    always_right = np.eye(5)[genre]
    assert scoring.probability_scores(genre, always_right) == {"top3_accuracy": 1.0, "log_loss": 0.0, "ece": 0.0}
    half_right = np.tile([0.5, 0.5, 0, 0, 0], (300, 1))
    assert scoring.probability_scores(np.zeros(300, dtype=int), half_right)["ece"] == pytest.approx(0.5)


def test_equal_probabilities_do_not_count_as_within_the_top() -> None:
    shares = np.array([[0.6, 0.4, 0.0, 0.0, 0.0]] * 2)
    assert scoring.within_top(np.array([2, 3]), shares).tolist() == [True, False]


def _coverage(units: np.ndarray, *, by_group: bool, repeats: int = 300) -> float:
    """How often the interval of accuracy holds the true one, where rows of a group are right or wrong together."""
    random = np.random.default_rng(4)
    groups = np.unique(units)
    covered = 0
    for repeat in range(repeats):
        easy = random.random(len(groups)) < 0.5
        right = random.random(len(units)) < np.where(easy[units], 0.9, 0.1)  # true accuracy: 0.5
        identity = (units if by_group else np.arange(len(units))) + 10_000 * repeat  # other resamples each time
        found = replicates("genre", np.ones(len(units), int), right.astype(int), None, whole(len(units)), identity, 400)
        low, high = percentile_interval(found[EVERYONE, "accuracy"])
        covered += low <= 0.5 <= high
    return covered / repeats


@pytest.mark.slow
def test_intervals_cover_what_they_promise() -> None:
    """95 % intervals hold the truth about 95 times of 100; the binomial error of 300 simulations is 1.3 points."""
    alone = np.arange(300)
    grouped = np.repeat(np.arange(60), 5)
    assert 0.91 <= _coverage(alone, by_group=False) <= 0.985
    assert 0.91 <= _coverage(grouped, by_group=True) <= 0.985
    assert _coverage(grouped, by_group=False) < 0.85  # what resampling rows would claim


def test_random_groups_vary_as_the_rows_in_them_do(monkeypatch) -> None:
    """The standard error of 2,000 replicates from 1,000 random groups is known to 2.7 %."""
    random = np.random.default_rng(9)
    n = 6000
    genre, popularity = random.integers(0, 4, n), random.integers(0, 30, n).astype(float)
    guess = np.where(random.random(n) < 0.6, genre, random.integers(0, 4, n))
    points = popularity + random.normal(0, 20, n)
    units = random.integers(0, 4000, n)
    found = []
    for most in (bootstrap.MOST_UNITS, 1000):
        monkeypatch.setattr(bootstrap, "MOST_UNITS", most)
        monkeypatch.setattr(bootstrap, "RANDOM_GROUPS", 1000)
        one = replicates("genre", genre, guess, None, whole(n), units, 2000)
        found.append(one | replicates("popularity", popularity, points, None, whole(n), units, 2000))
    for key, values in found[0].items():
        grouped = found[1][key]
        assert grouped.mean() == pytest.approx(values.mean(), abs=0.15 * values.std()), key
        assert grouped.std() == pytest.approx(values.std(), rel=0.1), key


def test_influences_add_up_to_the_rank_correlation(monkeypatch) -> None:
    random = np.random.default_rng(10)
    n = 5000
    monkeypatch.setattr(bootstrap, "RANDOM_GROUPS", n)
    x = random.normal(size=n)
    y = (0.5 * x + random.normal(size=n)).round(1)  # with ties
    rows = np.arange(n)
    weights = np.concatenate(list(bootstrap._resamples(rows, n, 200)), axis=1)
    exact = WeightedSpearman(x, y, rows)(weights)
    linear = bootstrap.LinearSpearman(x, y, rows)(weights)
    assert np.sqrt(((linear - exact) ** 2).mean()) < 0.05 * exact.std()
    assert linear.std() == pytest.approx(exact.std(), rel=0.02)


def test_spearman_needs_variation() -> None:
    for kind in (WeightedSpearman, bootstrap.LinearSpearman):
        kept = kind(np.ones(5), np.arange(5), np.arange(5))
        assert np.isnan(kept(np.ones((5 if kind is WeightedSpearman else bootstrap.RANDOM_GROUPS, 1), np.float32)))[0]


def _contrast(a: list[np.ndarray], b: list[np.ndarray], name: str = "") -> dict[str, float]:
    results = {f"results_{side}": [f"{name}{side}{i}" for i in range(len(both))] for side, both in (("a", a), ("b", b))}
    stored = {
        (result, "genre", "accuracy"): values
        for side, both in (("a", a), ("b", b))
        for result, values in zip(results[f"results_{side}"], both, strict=True)
    }
    row = {"task": "genre", "metric": "accuracy", "value_a": np.mean(a), "value_b": np.mean(b)}
    return contrast(pa.Table.from_pylist([row | results]), stored).to_pylist()[0]


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    shared = np.random.default_rng(5).normal(0.5, 0.02, 1000)
    found = _contrast([shared + 0.01], [shared])
    assert found["ci_low"] == pytest.approx(0.01)
    assert found["p_value"] < 1e-6


def test_the_spread_between_seeds_counts() -> None:
    random = np.random.default_rng(6)
    shared = random.normal(0.5, 0.001, 1000)
    a = [shared + shift for shift in (-0.02, 0.0, 0.02)]
    alone, several = _contrast([shared], [shared + 0.005]), _contrast(a, [shared + 0.005])
    assert alone["p_value"] < 0.001
    assert several["p_value"] > 0.05


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_the_p_value_says() -> None:
    """Two equally good models: p < 0.05 in about 5 of 100 simulations."""
    random = np.random.default_rng(7)
    alarms = 0
    for repeat in range(200):
        y = np.ones(300, dtype=int)
        found = [
            replicates(
                "genre", y, (random.random(300) < 0.6).astype(int), None, whole(300), np.arange(300) + repeat, 300
            )
            for _ in range(2)
        ]
        values = [part[EVERYONE, "accuracy"] for part in found]
        alarms += _contrast([values[0]], [values[1]])["p_value"] < 0.05
    assert alarms / 200 < 0.12


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_few_seeds_do_not_raise_false_alarms(seeds) -> None:
    """Equally good models whose seeds differ more than test rows do."""
    random = np.random.default_rng(8)
    alarms = 0
    for repeat in range(300):
        rows = random.normal(0, 0.001, 500)
        a, b = ([rows + random.normal(0.5, 0.01) for _ in range(seeds)] for _ in range(2))
        alarms += _contrast(a, b, name=str(repeat))["p_value"] < 0.05
    assert alarms / 300 < 0.09


def test_an_undefined_metric_has_no_interval() -> None:
    assert percentile_interval(np.full(10, np.nan)) == (None, None)


def test_an_interval_holds_the_middle_95_percent() -> None:
    assert percentile_interval(np.arange(1001) / 1000) == pytest.approx((0.025, 0.975))


def test_every_unit_is_drawn_as_often_as_any_other() -> None:
    units = np.arange(40)
    counts = np.concatenate(list(_resamples(units, 40, 2_000)), axis=1)
    assert counts.shape == (40, 2_000)
    assert (counts.sum(axis=0) == 40).all()
    # The number of draws of a unit has mean 2,000 and standard deviation sqrt(2,000 * 39 / 40) = 44.
    np.testing.assert_allclose(counts.sum(axis=1), 2_000, atol=5 * 44)

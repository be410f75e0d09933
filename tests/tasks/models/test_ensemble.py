from __future__ import annotations

import numpy as np
import pytest

from tasks.models.estimators.stacked import Candidate, StackedEnsemble, mixture_weights

SPLITS = ("train", "val")


class Given:
    """Predicts a task, or both, by a function of x, and remembers what it was fitted on."""

    def __init__(self, predict) -> None:
        self._predict = predict

    def fit(self, *seen) -> None:
        self.seen = seen

    def predict(self, x) -> np.ndarray:
        return self._predict(x)

    predict_proba = outputs = predict


def by_split(values, n_train=200) -> dict[str, np.ndarray]:
    return {"train": values[:n_train], "val": values[n_train:]}


def fitted(candidates, x, y, *, units=None, folds=2):
    """Returns an ensemble of functions of x that is fitted to y, and the estimators that it built, by candidate.

    Args: candidates: task and function of each. A task without one has a candidate that predicts 0 of any row.
    """
    built: list[list[Given]] = [[] for _ in candidates]

    def build(number, task, predict):
        def given(_) -> Given:
            built[number].append(Given(predict))
            return built[number][-1]

        return Candidate(name=f"model{number}", task=task, build=given)

    made = [build(number, *one) for number, one in enumerate(candidates)]
    predicted = {task for task, _ in candidates}
    for task, nothing in (("genre", lambda x: np.zeros((len(x), 1))), ("popularity", lambda x: np.zeros(len(x)))):
        if predicted.isdisjoint({task, "multitask"}):
            made.append(Candidate(name="none", task=task, build=lambda _, nothing=nothing: Given(nothing)))
    ensemble = StackedEnsemble(tuple(made), folds, 0)
    ensemble.fit(*map(by_split, (x, y.astype(int), y, np.arange(len(x)) if units is None else units)))
    return ensemble, built


def of_task(task, ensemble) -> list:
    return [member for member in ensemble.ensemble_members if member.task == task]


def weights(task, ensemble) -> list[float]:
    return [member.weight for member in of_task(task, ensemble)]


def column(number):
    return lambda x: x[:, number]


def shares(number):
    return lambda x: np.column_stack([x[:, number], 1 - x[:, number]])


def both(of_genre, of_popularity):
    return lambda x: {"genre": of_genre(x), "popularity": of_popularity(x)}


def test_popularity_is_the_mean_that_fits_the_rows_best() -> None:
    x = np.random.default_rng(0).normal(size=(500, 2)) + 50
    candidates = [("popularity", column(0)), ("multitask", both(shares(0), column(1)))]
    mean, _ = fitted(candidates, x, x @ [0.25, 0.75])
    np.testing.assert_allclose(weights("popularity", mean), [0.25, 0.75])
    np.testing.assert_allclose(mean.predict(np.array([[10.0, 30.0]]))["popularity"], [25.0])
    np.testing.assert_allclose(mean.held_out["popularity"], x[200:] @ [0.25, 0.75])


def test_a_member_that_only_harms_is_left_out() -> None:
    x = np.random.default_rng(1).normal(size=(500, 2)) + 50
    y = 2 * x[:, 0] - x[:, 1]
    one, built = fitted([("popularity", column(0)), ("popularity", column(1))], x, y)
    assert weights("popularity", one) == [1.0, 0.0]
    for fit in built[1]:
        del fit._predict  # it is not asked any more
    np.testing.assert_allclose(one.predict(x)["popularity"], x[:, 0])
    scores = [member.out_of_fold for member in of_task("popularity", one)]
    np.testing.assert_allclose(scores, np.sqrt(np.mean((x - y[:, None]) ** 2, axis=0)))


def test_the_genre_is_the_likeliest_by_the_weighted_mean() -> None:
    x = np.tile([[0.9, 0.4], [0.8, 0.2], [0.9, 0.6], [0.1, 0.7]], (100, 1))
    y = np.tile([0, 0, 0, 1], 100)
    mean, _ = fitted([("genre", shares(0)), ("genre", shares(1))], x, y)
    assert weights("genre", mean) == [1.0, 0.0]
    np.testing.assert_allclose(mean.outputs(x)["genre"], shares(0)(x))
    np.testing.assert_allclose(mean.held_out["genre"], shares(0)(x[200:]))
    assert mean.predict(1 - x[:3])["genre"].tolist() == [1, 1, 1]
    assert [member.out_of_fold for member in of_task("genre", mean)] == [1.0, 0.25]


def test_a_multitask_member_is_fitted_once_and_has_a_weight_in_each_task() -> None:
    """In this case none for genre: it knows popularity alone."""
    random = np.random.default_rng(3)
    y = np.tile([0.0, 1.0], 150)
    x = np.column_stack([0.9 - 0.8 * y, random.uniform(size=300), y])
    candidates = [("genre", shares(0)), ("multitask", both(shares(1), column(2))), ("popularity", column(1))]
    mean, [_, nets, _] = fitted(candidates, x, y, folds=3)
    assert len(nets) == 3
    assert [(one.name, one.weight > 0.99) for one in of_task("genre", mean)] == [("model0", True), ("model1", False)]
    weight, other = weights("popularity", mean)
    assert weight > 0.99
    found = mean.outputs(x)
    np.testing.assert_allclose(found["popularity"], weight * y + other * x[:, 1])
    np.testing.assert_allclose(found["genre"], shares(0)(x))
    assert mean.predict(x)["genre"].tolist() == y.tolist()


def test_each_row_is_predicted_by_a_fit_that_did_not_see_it() -> None:
    x = np.arange(300.0)[:, None]
    mean, [fits] = fitted([("popularity", column(0))], x, x[:, 0] % 100, folds=3)
    seen = [set(fit.seen[0][:, 0]) for fit in fits]
    assert [len(rows) for rows in seen] == [200, 200, 200]
    assert all(sum(row in rows for rows in seen) == 2 for row in x[:, 0])
    for fit, rows in zip(fits, seen, strict=True):  # a fit predicts 1 for what it saw, 0 for the rest
        fit._predict = lambda x, rows=rows: np.array([float(row in rows) for row in x[:, 0]])
    np.testing.assert_allclose(mean.predict(x)["popularity"], 2 / 3)


def test_folds_keep_groups_whole() -> None:
    x = np.arange(400.0)[:, None]
    units = np.repeat(np.arange(100), 4)
    _, [fits] = fitted([("popularity", column(0))], x, x[:, 0] % 100, units=units, folds=4)
    for fit in fits:
        inside = fit.seen[0][:, 0].astype(int)
        outside = np.setdiff1d(np.arange(400), inside)
        assert len(outside) == 100
        assert not np.isin(units[outside], units[inside]).any()


def test_a_changed_validation_row_is_predicted_by_the_fits_that_did_not_see_it() -> None:
    x = np.arange(300.0)[:, None]
    mean, [fits] = fitted([("multitask", both(lambda x: np.ones((len(x), 2)), column(0)))], x, x[:, 0] % 100, folds=3)
    for number, fit in enumerate(fits):
        fit._predict = both(
            lambda x, number=number: np.eye(3)[np.full(len(x), number)],
            lambda x, number=number: np.full(len(x), 10.0**number),
        )
    seen = [set(fit.seen[0]["train"][:, 0]) for fit in fits]
    rows = np.array([7, 0, 99, 7])  # of split val, whose first row is number 200
    expected = [number for row in rows for number in range(3) if 200.0 + row not in seen[number]]
    found = mean.predict_out_of_fold(-x[:4], rows)
    assert found["genre"].tolist() == expected
    assert found["popularity"].tolist() == [10.0**number for number in expected]


@pytest.mark.parametrize("predicted", [0.0, 50.0])
def test_a_popularity_of_0_in_every_row_weighs_all_alike(predicted) -> None:
    x = np.full((300, 1), predicted)
    mean, _ = fitted([("popularity", column(0)), ("popularity", column(0))], x, np.zeros(300))
    assert weights("popularity", mean) == [0.5, 0.5]


def test_a_fit_that_knows_one_genre_is_sure_of_it() -> None:
    """XGBoost has two columns then."""
    x, y = np.zeros((300, 2)), np.zeros(300)
    y[:3] = 1
    units = np.concatenate([np.zeros(3), np.arange(1, 298)])
    mean, _ = fitted([("genre", lambda x: np.full((len(x), 2), 0.5))], x, y, units=units)
    np.testing.assert_allclose(mean.outputs(x[:1])["genre"], [[0.75, 0.25]])


def test_only_multitask_members_see_both_targets_and_the_fold() -> None:
    x = np.arange(400.0)[:, None]
    candidates = [("popularity", column(0)), ("multitask", both(shares(0), column(0))), ("genre", shares(0))]
    _, [[one, _], [other, _], [another, _]] = fitted(candidates, x, x[:, 0] / 4)
    rows, points = one.seen
    np.testing.assert_allclose(points, rows[:, 0] / 4)
    rows, codes = another.seen
    assert codes.tolist() == np.unique((rows[:, 0] / 4).astype(int), return_inverse=True)[1].tolist()
    by_split_rows, genre, popularity = other.seen
    np.testing.assert_allclose(by_split_rows["train"], rows)
    assert len({*by_split_rows["train"][:, 0], *by_split_rows["val"][:, 0]}) == 400
    for split in SPLITS:
        np.testing.assert_allclose(popularity[split], by_split_rows[split][:, 0] / 4)
        assert genre[split].tolist() == popularity[split].astype(int).tolist()


def test_a_genre_that_a_fold_has_alone_gets_probability_0_from_its_fit() -> None:
    x = np.arange(300.0)[:, None]
    y = np.where(np.arange(300) < 150, 0, 2)
    y[:3] = 1  # of one group, so that one fit sees codes 0 and 2 alone
    units = np.concatenate([np.zeros(3), np.arange(1, 298)])
    seen = []

    class Classes(Given):
        def fit(self, _, codes) -> None:
            self.n = len(np.unique(codes))
            assert np.unique(codes).tolist() == [*range(self.n)]  # XGBoost accepts no other codes
            seen.append(self.n)

        def predict_proba(self, x) -> np.ndarray:
            return np.full((len(x), self.n), 1 / self.n)

    classes = Candidate(name="model", task="genre", build=lambda _: Classes(None))
    points = Candidate(name="model", task="popularity", build=lambda _: Given(column(0)))
    ensemble = StackedEnsemble((classes, points), 2, 0)
    ensemble.fit(*map(by_split, (x, y, y, units)))
    assert sorted(seen) == [2, 3]
    shown = ensemble.outputs(x[:1])["genre"]
    np.testing.assert_allclose(shown, [[(1 / 2 + 1 / 3) / 2, 1 / 6, (1 / 2 + 1 / 3) / 2]])


def test_mixture_weights_are_those_of_highest_likelihood() -> None:
    likelihoods = np.random.default_rng(2).uniform(size=(2, 400))
    weight, _ = mixture_weights(likelihoods)
    tried = np.linspace(0, 1, 1001)
    gained = [np.log(w * likelihoods[0] + (1 - w) * likelihoods[1]).sum() for w in tried]
    assert weight == pytest.approx(tried[np.argmax(gained)], abs=0.01)

from __future__ import annotations

import numpy as np
import pytest

from tasks.models.estimators.stacked import Candidate, StackedEnsemble, mixture_weights

SPLITS = ("train", "val")


class Given:
    """Predicts by a function of x, and remembers what it was fitted on."""

    def __init__(self, predict, head=None) -> None:
        self._predict = predict
        self._head = head

    def fit(self, *seen) -> None:
        self.seen = seen

    def predict(self, x) -> object:
        return {self._head: self._predict(x)} if self._head else self._predict(x)

    def predict_proba(self, x) -> np.ndarray:
        return self._predict(x)


def by_split(values, n_train=200) -> dict[str, np.ndarray]:
    return {"train": values[:n_train], "val": values[n_train:]}


def fitted(task, candidates, x, y, *, units=None, folds=2):
    """Returns an ensemble of functions of x that is fitted to y, and the estimators that it built, by candidate."""
    built: list[list[Given]] = [[] for _ in candidates]

    def build(number, predict, head):
        def given(seed) -> Given:
            built[number].append(Given(predict, head))
            return built[number][-1]

        return Candidate(name=f"model{number}", build=given, is_multitask=head is not None)

    made = tuple(build(number, *one) for number, one in enumerate(candidates))
    ensemble = StackedEnsemble(task, made, folds, 0)
    ensemble.fit(*map(by_split, (x, y.astype(int), y, np.arange(len(x)) if units is None else units)))
    return ensemble, built


def weights(ensemble) -> list[float]:
    return [member.weight for member in ensemble.ensemble_members]


def column(number):
    return lambda x: x[:, number]


def shares(number):
    return lambda x: np.column_stack([x[:, number], 1 - x[:, number]])


def test_popularity_is_the_mean_that_fits_the_rows_best() -> None:
    x = np.random.default_rng(0).normal(size=(500, 2)) + 50
    mean, _ = fitted("popularity", [(column(0), None), (column(1), "popularity")], x, x @ [0.25, 0.75])
    np.testing.assert_allclose(weights(mean), [0.25, 0.75])
    np.testing.assert_allclose(mean.predict(np.array([[10.0, 30.0]])), [25.0])
    np.testing.assert_allclose(mean.held_out, x[200:] @ [0.25, 0.75])


def test_a_member_that_only_harms_is_left_out() -> None:
    x = np.random.default_rng(1).normal(size=(500, 2)) + 50
    y = 2 * x[:, 0] - x[:, 1]
    one, built = fitted("popularity", [(column(0), None), (column(1), "popularity")], x, y)
    assert weights(one) == [1.0, 0.0]
    for fit in built[1]:
        del fit._predict  # it is not asked any more
    np.testing.assert_allclose(one.predict(x), x[:, 0])
    scores = [member.out_of_fold for member in one.ensemble_members]
    np.testing.assert_allclose(scores, np.sqrt(np.mean((x - y[:, None]) ** 2, axis=0)))


def test_the_genre_is_the_likeliest_by_the_weighted_mean() -> None:
    x = np.tile([[0.9, 0.4], [0.8, 0.2], [0.9, 0.6], [0.1, 0.7]], (100, 1))
    y = np.tile([0, 0, 0, 1], 100)
    mean, _ = fitted("genre", [(shares(0), None), (shares(1), None)], x, y)
    assert weights(mean) == [1.0, 0.0]
    np.testing.assert_allclose(mean.predict_proba(x), shares(0)(x))
    assert mean.predict(1 - x[:3]).tolist() == [1, 1, 1]
    assert [member.out_of_fold for member in mean.ensemble_members] == [1.0, 0.25]


def test_each_row_is_predicted_by_a_fit_that_did_not_see_it() -> None:
    x = np.arange(300.0)[:, None]
    mean, [fits] = fitted("popularity", [(column(0), None)], x, x[:, 0] % 100, folds=3)
    seen = [set(fit.seen[0][:, 0]) for fit in fits]
    assert [len(rows) for rows in seen] == [200, 200, 200]
    assert all(sum(row in rows for rows in seen) == 2 for row in x[:, 0])
    for fit, rows in zip(fits, seen, strict=True):  # a fit predicts 1 for what it saw, 0 for the rest
        fit._predict = lambda x, rows=rows: np.array([float(row in rows) for row in x[:, 0]])
    np.testing.assert_allclose(mean.predict(x), 2 / 3)


def test_folds_keep_groups_whole() -> None:
    x = np.arange(400.0)[:, None]
    units = np.repeat(np.arange(100), 4)
    _, [fits] = fitted("popularity", [(column(0), None)], x, x[:, 0] % 100, units=units, folds=4)
    for fit in fits:
        inside = fit.seen[0][:, 0].astype(int)
        outside = np.setdiff1d(np.arange(400), inside)
        assert len(outside) == 100
        assert not np.isin(units[outside], units[inside]).any()


def test_a_changed_validation_row_is_predicted_by_the_fits_that_did_not_see_it() -> None:
    x = np.arange(300.0)[:, None]
    mean, [fits] = fitted("popularity", [(column(0), None)], x, x[:, 0] % 100, folds=3)
    for number, fit in enumerate(fits):
        fit._predict = lambda x, number=number: np.full(len(x), 10.0**number)
    seen = [set(fit.seen[0][:, 0]) for fit in fits]
    rows = np.array([7, 0, 99, 7])  # of split val, whose first row is number 200
    expected = [10.0**number for row in rows for number in range(3) if 200.0 + row not in seen[number]]
    assert mean.predict_out_of_fold(-x[:4], rows).tolist() == expected


@pytest.mark.parametrize("predicted", [0.0, 50.0])
def test_a_popularity_of_0_in_every_row_weighs_all_alike(predicted) -> None:
    x = np.full((300, 1), predicted)
    mean, _ = fitted("popularity", [(column(0), None), (column(0), "popularity")], x, np.zeros(300))
    assert weights(mean) == [0.5, 0.5]


def test_a_fit_that_knows_one_genre_is_sure_of_it() -> None:
    """XGBoost has two columns then."""
    x, y = np.zeros((300, 2)), np.zeros(300)
    y[:3] = 1
    units = np.concatenate([np.zeros(3), np.arange(1, 298)])
    mean, _ = fitted("genre", [(lambda x: np.full((len(x), 2), 0.5), None)], x, y, units=units)
    np.testing.assert_allclose(mean.predict_proba(x[:1]), [[0.75, 0.25]])


def test_only_multitask_members_see_both_targets_and_the_fold() -> None:
    x = np.arange(400.0)[:, None]
    _, [[one, _], [other, _]] = fitted("popularity", [(column(0), None), (column(0), "popularity")], x, x[:, 0] / 4)
    rows, points = one.seen
    np.testing.assert_allclose(points, rows[:, 0] / 4)
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

    candidate = Candidate(name="model", build=lambda _: Classes(None), is_multitask=False)
    ensemble = StackedEnsemble("genre", (candidate,), 2, 0)
    ensemble.fit(*map(by_split, (x, y, y, units)))
    assert sorted(seen) == [2, 3]
    np.testing.assert_allclose(ensemble.predict_proba(x[:1]), [[(1 / 2 + 1 / 3) / 2, 1 / 6, (1 / 2 + 1 / 3) / 2]])


def test_mixture_weights_are_those_of_highest_likelihood() -> None:
    likelihoods = np.random.default_rng(2).uniform(size=(2, 400))
    weight, _ = mixture_weights(likelihoods)
    tried = np.linspace(0, 1, 1001)
    gained = [np.log(w * likelihoods[0] + (1 - w) * likelihoods[1]).sum() for w in tried]
    assert weight == pytest.approx(tried[np.argmax(gained)], abs=0.01)

from __future__ import annotations

import numpy as np
import pytest

from tasks.models.estimators.stacked import Member, StackedEnsemble, mixture_weights


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


def fitted(task, one, other, x, y) -> StackedEnsemble:
    both = StackedEnsemble(
        task, (Member(estimator=one, is_multitask=False), Member(estimator=other, is_multitask=True))
    )
    by_split = {"train": y[:1], "val": y}
    both.fit({"train": x[:1], "val": x}, by_split, by_split)
    return both


def test_popularity_is_the_mean_that_fits_the_validation_rows_best() -> None:
    x = np.random.default_rng(0).normal(size=(500, 2)) + 50
    both = fitted("popularity", Given(lambda x: x[:, 0]), Given(lambda x: x[:, 1], "popularity"), x, x @ [0.25, 0.75])
    np.testing.assert_allclose(both.weights, [0.25, 0.75])
    np.testing.assert_allclose(both.predict(np.array([[10.0, 30.0]])), [25.0])


def test_a_member_that_only_harms_gets_no_weight() -> None:
    x = np.random.default_rng(1).normal(size=(500, 2)) + 50
    y = 2 * x[:, 0] - x[:, 1]
    both = fitted("popularity", Given(lambda x: x[:, 0]), Given(lambda x: x[:, 1], "popularity"), x, y)
    np.testing.assert_allclose(both.weights, [1.0, 0.0])


def test_the_genre_is_the_likeliest_by_the_weighted_mean() -> None:
    def shares(column):
        return lambda x: np.column_stack([x[:, column], 1 - x[:, column]])

    x = np.array([[0.9, 0.4], [0.8, 0.2], [0.9, 0.6]])
    both = fitted("genre", Given(shares(0)), Given(shares(1)), x, np.array([0, 0, 0]))
    np.testing.assert_allclose(both.weights, [1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(both.predict_proba(x), shares(0)(x), atol=1e-6)
    assert both.predict(1 - x).tolist() == [1, 1, 1]


def test_mixture_weights_are_those_of_highest_likelihood() -> None:
    likelihoods = np.random.default_rng(2).uniform(size=(2, 400))
    weight, _ = mixture_weights(likelihoods)
    tried = np.linspace(0, 1, 1001)
    gained = [np.log(w * likelihoods[0] + (1 - w) * likelihoods[1]).sum() for w in tried]
    assert weight == pytest.approx(tried[np.argmax(gained)], abs=0.01)


def test_only_multitask_members_see_both_targets_and_the_validation_split() -> None:
    one, other = Given(lambda x: x[:, 0]), Given(lambda x: x[:, 0], "popularity")
    both = StackedEnsemble(
        "popularity", (Member(estimator=one, is_multitask=False), Member(estimator=other, is_multitask=True))
    )
    x, genre, popularity = ({"train": np.full((1, 1), number), "val": np.ones((1, 1))} for number in range(3))
    both.fit(x, genre, {split: values[:, 0] for split, values in popularity.items()})
    assert one.seen[0] is x["train"]
    assert one.seen[1] == 2
    assert other.seen[1] is genre

from __future__ import annotations

import numpy as np

from tasks.ensemble import MeanEnsemble, Member


class Constant:
    """Predicts what it is given, and remembers what it was fitted on."""

    def __init__(self, predicted, probabilities=None) -> None:
        self.predicted = predicted if isinstance(predicted, dict) else np.array(predicted)
        self.probabilities = np.array(probabilities)

    def fit(self, *seen) -> None:
        self.seen = seen

    def predict(self, _) -> object:
        return self.predicted

    def predict_proba(self, _) -> np.ndarray:
        return self.probabilities


def ensemble(task, *estimators) -> MeanEnsemble:
    return MeanEnsemble(
        task,
        tuple(
            Member(estimator=estimator, weight=weight, is_multitask=weight == 3.0)
            for estimator, weight in zip(estimators, (1.0, 3.0), strict=True)
        ),
    )


def test_popularity_is_the_weighted_mean() -> None:
    both = ensemble("popularity", Constant([10.0, 50.0]), Constant({"popularity": np.array([30.0, 50.0])}))
    np.testing.assert_allclose(both.predict(np.zeros((2, 1))), [25.0, 50.0])


def test_the_genre_is_the_likeliest_by_the_weighted_mean() -> None:
    both = ensemble("genre", Constant([0, 0], [[0.9, 0.1], [1.0, 0.0]]), Constant([1, 0], [[0.4, 0.6], [0.3, 0.7]]))
    np.testing.assert_allclose(both.predict_proba(np.zeros((2, 1))), [[0.525, 0.475], [0.475, 0.525]])
    assert both.predict(np.zeros((2, 1))).tolist() == [0, 1]


def test_only_multitask_members_see_both_targets_and_the_validation_split() -> None:
    members = (Constant([0.0]), Constant([0.0]))
    x, genre, popularity = ({"train": np.full((1, 1), number), "val": np.ones((1, 1))} for number in range(3))
    ensemble("popularity", *members).fit(x, genre, popularity)
    assert members[0].seen == (x["train"], popularity["train"])
    assert members[1].seen == (x, genre, popularity)

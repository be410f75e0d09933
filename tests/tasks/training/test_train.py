from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from tasks.models.rows import Data
from tasks.training import train

ROWS = {"train": 140, "val": 60, "test": 10}


class CrossFitting:
    """Predicts 1 of any row, and 0 out of fold."""

    def fit(self, *by_split) -> None:
        self.seen = by_split
        self.held_out = np.zeros(len(by_split[0]["val"]))

    def predict(self, x) -> np.ndarray:
        return np.ones(len(x))

    def predict_out_of_fold(self, x, rows) -> np.ndarray:
        return x[:, 0] * (rows < 20) + 0.5


def test_validation_rows_that_a_model_was_fitted_on_are_predicted_out_of_fold() -> None:
    numbers = {split: np.arange(n) for split, n in ROWS.items()}
    data = Data(
        features=["number"],
        n_train=ROWS["train"],
        x={split: rows[:, None] for split, rows in numbers.items()},
        y={"genre": numbers, "popularity": {split: rows + 0.5 for split, rows in numbers.items()}},
        track_id=numbers,
        is_imputed={split: rows < 0 for split, rows in numbers.items()},
        units={split: -rows for split, rows in numbers.items()},
    )
    spec = SimpleNamespace(
        task="popularity", targets=("genre", "popularity"), cross_fits=True, watches_validation=False,
        fit_out_of_core=None, importance="permutation",
    )  # fmt: skip
    estimator = CrossFitting()
    data = train.for_model(spec, data)
    train.fit(estimator, spec, data)
    x, genre, popularity, units = estimator.seen
    # 15 validation rows for each 70 training rows, as a split has them: few training rows are not outnumbered
    assert [*map(len, (*x.values(), *units.values()))] == [140, 30, 140, 30]
    for of_split in ("train", "val"):
        rows = x[of_split][:, 0]
        assert rows.tolist() == [*range(len(rows))] == genre[of_split].tolist() == (-units[of_split]).tolist()
        assert (popularity[of_split] - rows == 0.5).all()
    found = train.predict_splits(estimator, spec, data.x, n_genres=1)
    assert found["val"].values["popularity"].tolist() == [0.0] * 30
    assert {len(part["val"]) for part in (data.track_id, *data.y.values())} == {30}
    assert found["test"].values["popularity"].tolist() == [1.0] * 10
    # Of the first 20 of 30 rows, each is its own number + 0.5; the shuffled column matters to them.
    [importance] = train._importance(estimator, spec, data, 20, seed=0)
    assert importance["importance"] > 5.0

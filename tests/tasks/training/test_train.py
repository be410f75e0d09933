from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from tasks.models.rows import Data
from tasks.training import train

ROWS = {"train": 140, "val": 60, "test": 10}


class CrossFitting:
    """Predicts genre 1 and popularity 1 of any row, and 0 out of fold."""

    def fit(self, *by_split) -> None:
        self.seen = by_split
        n_rows = len(by_split[0]["val"])
        self.held_out = {"genre": np.eye(2)[[0] * n_rows], "popularity": np.zeros(n_rows)}

    def outputs(self, x) -> dict[str, np.ndarray]:
        return {"genre": np.eye(2)[[1] * len(x)], "popularity": np.ones(len(x))}

    def predict_out_of_fold(self, x, rows) -> dict[str, np.ndarray]:
        return {"genre": x[:, 0] * (rows < 20), "popularity": x[:, 0] * (rows < 20) + 0.5}


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
        task="multitask", targets=("genre", "popularity"), cross_fits=True, watches_validation=False,
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
    found = train.predict_splits(estimator, spec, data.x, n_genres=3)
    for task in ("genre", "popularity"):
        assert found["val"].values[task].tolist() == [0] * 30
        assert found["test"].values[task].tolist() == [1] * 10
    assert found["val"].probabilities.tolist() == [[1, 0, 0]] * 30
    assert {len(part["val"]) for part in (data.track_id, *data.y.values())} == {30}
    # Of the first 20 of 30 rows, each is its own number, and + 0.5; the shuffled column matters to them.
    importance = {row["task"]: row["importance"] for row in train._importance(estimator, spec, data, 20, seed=0)}
    assert importance["genre"] > 0.8
    assert importance["popularity"] > 5.0

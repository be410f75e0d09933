"""Pools the folds of a cross-validation: the replicates of its figures over all rows, and intervals from them.

Each row is tested once. What varies if other tracks are drawn is the test rows, which the folds' bootstrap replicates
show, and the training rows, whose part no estimate from one set of tracks gives without bias (Bengio and Grandvalet).
The variance of the replicates is therefore multiplied by 1 + n_test / n_train, the numbers of rows that one model is
tested and trained on: the part of Nadeau and Bengio's correction that is due to one shared training set. The test rows
of different folds have nothing in common, so that the rest of their correction does not apply; with it, 95 % intervals
held the truth in 98 to 99.5 % of simulations, and without any in 88 to 94 %. With this factor they did in 91 to 97 %
(tests/tasks/evaluation/test_cross_validation.py simulates it): less often for models that change much with their
training rows, such as single deep trees.

Source: Nadeau and Bengio (2003), Inference for the Generalization Error; Bengio and Grandvalet (2004), No Unbiased
Estimator of the Variance of K-Fold Cross-Validation; Bates, Hastie and Tibshirani (2024), Cross-Validation: What Does
It Estimate and How Well Does It Do It?
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.evaluation.bootstrap import percentile_interval
from tasks.evaluation.comparisons import Replicates


def pool(folds: pa.Table, replicates: Replicates) -> tuple[pa.Table, dict[tuple[str, str, str], np.ndarray]]:
    """Adds ci_low and ci_high (95 %) to the pooled figures of cross-validations.

    Args: folds: columns task, metric, value, whole (names the cross-validation), results (folders of the folds' cells),
        weights (each fold's share of the rows) and test_to_train (rows tested for one trained on). replicates: of the
        folds' figures.

    Returns: `folds` with both columns, NULL where a fold's replicates are undefined or missing; and the replicates of
        the pooled figures, by (whole, task, metric).
    """
    found: dict[tuple[str, str, str], np.ndarray] = {}
    lows, highs = [], []
    for row in folds.to_pylist():
        keys = [(result, row["task"], row["metric"]) for result in row["results"]]
        low = high = None
        if row["value"] is not None and all(key in replicates for key in keys):
            by_fold = np.stack([replicates[key] for key in keys])
            pooled = pooled_replicates(row["metric"], row["value"], by_fold, row["weights"], row["test_to_train"])
            found[f"folds of {row['whole']}", row["task"], row["metric"]] = pooled
            low, high = percentile_interval(pooled)
        lows.append(low)
        highs.append(high)
    for name, values in (("ci_low", lows), ("ci_high", highs)):
        folds = folds.append_column(name, pa.array(values, pa.float64()))
    return folds, found


def pooled_value(metric: str, by_fold: list[float], weights: list[float]) -> float:
    """Returns a figure over the rows of all folds, of a metric that is a mean over rows, or a root of one (rmse).

    Args: by_fold, weights: shape (n_folds,); the weights add up to 1.
    """
    shares, values = np.asarray(weights), np.asarray(by_fold)
    return float(np.sqrt(shares @ values**2) if metric == "rmse" else shares @ values)


def pooled_replicates(
    metric: str, value: float, by_fold: np.ndarray, weights: list[float], test_to_train: float
) -> np.ndarray:
    """Returns replicates of a figure over the rows of all folds, around its value, that also vary with training rows.

    Args: by_fold: shape (n_folds, n_replicates). weights: (n_folds,), they add up to 1.

    Returns: shape (n_replicates,).
    """
    shares = np.asarray(weights)
    drawn = np.sqrt(shares @ by_fold.astype(np.float64) ** 2) if metric == "rmse" else shares @ by_fold
    return np.asarray(value + (drawn - np.nanmean(drawn)) * np.sqrt(1 + test_to_train))

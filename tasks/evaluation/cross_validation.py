"""Pools the folds of a cross-validation: the replicates of its figures over all rows, and intervals from them.

Each row is tested once. If other tracks were drawn, the test rows would differ, which the folds' bootstrap replicates
show, and the training rows. No estimate from one set of tracks gives that part without bias (Bengio and Grandvalet
2004). Nadeau and Bengio (2003) correct for it where test sets overlap, which those of folds do not: with their factor,
95 % intervals of five folds held the truth in 98 to 99.5 % of simulations, and with none in 87 to 94 %.

Here the variance of the replicates is multiplied by 1.4, for any number of folds and any model. With that, the same
simulations (logistic regression, nearest neighbours, single trees; 200 and 400 rows; groups) held the mean error on
fresh data in 93 to 97 % with five folds, 95 to 98 % with ten, and 89 to 95 % with two or three. They hold it least
often for models that change much with their training rows. tests/tasks/evaluation/test_cross_validation.py repeats
them.

Source: Bengio and Grandvalet (2004), No Unbiased Estimator of the Variance of K-Fold Cross-Validation; Nadeau and
Bengio (2003), Inference for the Generalization Error; Bates, Hastie and Tibshirani (2024), Cross-Validation: What Does
It Estimate and How Well Does It Do It?
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.evaluation.bootstrap import percentile_interval
from tasks.evaluation.comparisons import Replicates

OTHER_TRAINING_ROWS = 1.4  # by how much they increase the variance


def pool(folds: pa.Table, replicates: Replicates) -> tuple[pa.Table, dict[tuple[str, str, str], np.ndarray]]:
    """Adds ci_low and ci_high (95 %) to the pooled figures of cross-validations.

    Args: folds: columns task, metric, value, whole (names the cross-validation), results (folders of the folds' cells),
        and rows_by_fold (their numbers of rows). replicates: of the folds' figures.

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
            pooled = pooled_replicates(row["metric"], row["value"], by_fold, row["rows_by_fold"])
            found[row["whole"], row["task"], row["metric"]] = pooled
            low, high = percentile_interval(pooled)
        lows.append(low)
        highs.append(high)
    for name, values in (("ci_low", lows), ("ci_high", highs)):
        folds = folds.append_column(name, pa.array(values, pa.float64()))
    return folds, found


def pooled_value(metric: str, by_fold: list[float], rows: list[int]) -> float:
    """Returns a figure over the rows of all folds, of a metric that is a mean over rows, or a root of one (rmse).

    Args: by_fold: shape (n_folds,). rows: number of rows of each fold, (n_folds,).
    """
    return float(_mean(metric, np.array(by_fold), rows))


def pooled_replicates(metric: str, value: float, by_fold: np.ndarray, rows: list[int]) -> np.ndarray:
    """Returns replicates of a figure over the rows of all folds, around its value, that also vary with training rows.

    Args: by_fold: shape (n_folds, n_replicates). rows: number of rows of each fold, (n_folds,).

    Returns: shape (n_replicates,).
    """
    drawn = _mean(metric, by_fold.astype(np.float64), rows)
    return np.asarray(value + (drawn - np.nanmean(drawn)) * np.sqrt(OTHER_TRAINING_ROWS))


def _mean(metric: str, by_fold: np.ndarray, rows: list[int]) -> np.ndarray:
    if metric == "rmse":
        return np.asarray(np.sqrt(np.average(by_fold**2, axis=0, weights=rows)))
    return np.asarray(np.average(by_fold, axis=0, weights=rows))

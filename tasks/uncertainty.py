"""How sure a figure is: bootstrap replicates of every metric from the per-row predictions. Knows arrays only.

The rows that were predicted are resampled with replacement, or whole groups of rows where rows of one group are not
independent, and each metric is computed anew. Two sets of predictions of the same rows see the same resamples, so that
the difference of their replicates is a paired comparison. What is not covered is how the training rows happened to be
drawn; seeds show the spread of what is random in training.

Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13 (percentile interval); groups: Davison
and Hinkley (1997), Bootstrap Methods and their Application, section 3.8 (resampling whole clusters).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from tasks.scoring import CALIBRATION_BINS, confidence_bin, log_losses, within_top

REPLICATES = 1_000
CONFIDENCE = 0.95
BLOCK = 4_000_000  # weights held at once: bounds the memory


def replicates(
    task: str,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    probabilities: np.ndarray | None,
    slices: Mapping[str, np.ndarray],
    units: np.ndarray,
    n_replicates: int = REPLICATES,
) -> dict[tuple[str, str], np.ndarray]:
    """Bootstrap replicates of each metric of `task` on each slice.

    Args: y_true, y_pred: shape (n_rows,): genre codes, or popularity points. probabilities: (n_rows, n_genres) or None.
        slices: by name, shape (n_rows,), bool. units: (n_rows,), what is resampled: rows of equal unit stay together.
    Returns: by slice and metric, shape (n_replicates,); NaN where a resample does not define the metric.
    """
    distinct, unit = np.unique(units, return_inverse=True)
    if task == "genre":
        per_row = _genre_statistics(y_true, y_pred, probabilities)
        n_genres = (per_row.shape[1] - _N_SHARED) // 3
    else:
        per_row = _popularity_statistics(y_true, y_pred)
    per_unit = {name: _sum_by_unit(per_row * chosen[:, None], unit) for name, chosen in slices.items()}
    ranks = {name: WeightedSpearman(y_true[chosen], y_pred[chosen]) for name, chosen in slices.items()}
    blocks: dict[tuple[str, str], list[np.ndarray]] = {}
    for weights in _resamples(distinct, len(units), n_replicates):
        for name, chosen in slices.items():
            sums = (weights @ per_unit[name]).astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                if task == "genre":
                    found = _genre_metrics(sums, n_genres, has_probabilities=probabilities is not None)
                else:
                    found = _popularity_metrics(sums)
                    found["spearman"] = ranks[name](weights[:, unit[chosen]])
            for metric, values in found.items():
                blocks.setdefault((name, metric), []).append(values)
    return {key: np.concatenate(values) for key, values in blocks.items()}


def interval(values: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """The percentile interval of bootstrap replicates; None where more than half of them are undefined."""
    defined = values[np.isfinite(values)]
    if len(defined) * 2 < len(values):
        return None, None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _resamples(units: np.ndarray, n_rows: int, n_replicates: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn in each resample, in blocks of shape (n, n_units); the same for the same units."""
    random = np.random.default_rng(zlib.crc32(np.ascontiguousarray(units, dtype=np.int64).tobytes()))
    at_once = max(1, BLOCK // n_rows)
    for start in range(0, n_replicates, at_once):
        n = min(at_once, n_replicates - start)
        drawn = random.integers(0, len(units), size=(n, len(units)), dtype=np.int64)
        drawn += np.arange(n)[:, None] * len(units)
        yield np.bincount(drawn.ravel(), minlength=n * len(units)).reshape(n, -1).astype(np.float32)


class WeightedSpearman:
    """Spearman's rank correlation of fixed pairs under many sets of whole-number weights (ties share their mean rank).

    Args: x, y: shape (n_rows,).
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self._sides = [self._order(values) for values in (x, y)]

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """The correlation under each row of `weights`, shape (n, n_rows): shape (n,), NaN where undefined."""
        centre = (weights.sum(axis=1, keepdims=True) + 1) / 2
        x, y = (self._ranks(weights, *side) - centre for side in self._sides)
        wx = weights * x
        covariance = np.einsum("ij,ij->i", wx, y, dtype=np.float64)
        x_variance = np.einsum("ij,ij->i", wx, x, dtype=np.float64)
        y_variance = np.einsum("ij,ij,ij->i", weights, y, y, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            return covariance / np.sqrt(x_variance * y_variance)

    @staticmethod
    def _order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        order = np.argsort(values, kind="stable")
        _, tie, counts = np.unique(values, return_inverse=True, return_counts=True)
        return order, np.cumsum(counts) - 1, tie

    @staticmethod
    def _ranks(weights: np.ndarray, order: np.ndarray, last: np.ndarray, tie: np.ndarray) -> np.ndarray:
        through = np.cumsum(weights[:, order], axis=1)[:, last]
        below = np.concatenate([np.zeros_like(through[:, :1]), through[:, :-1]], axis=1)
        return ((below + through + 1) / 2)[:, tie]


# After each genre's true, predicted and right rows come: rows, right rows, right within three, log loss, and for each
# bin of confidence the sum of confidence minus rightness.
_N_SHARED = 4 + CALIBRATION_BINS


def _genre_statistics(y_true: np.ndarray, y_pred: np.ndarray, probabilities: np.ndarray | None) -> np.ndarray:
    n_genres = int(max(y_true.max(), y_pred.max())) + 1
    if probabilities is not None:
        n_genres = max(n_genres, probabilities.shape[1])
    one_hot = np.eye(n_genres)
    right = y_true == y_pred
    shared = np.zeros((len(y_true), _N_SHARED))
    shared[:, 0] = 1
    shared[:, 1] = right
    if probabilities is not None:
        shared[:, 2] = within_top(y_true, probabilities)
        shared[:, 3] = log_losses(y_true, probabilities)
        confidence = probabilities.max(axis=1)
        at = 4 + confidence_bin(confidence)
        shared[np.arange(len(y_true)), at] = confidence - right
    return np.hstack([one_hot[y_true], one_hot[y_pred], one_hot[y_true] * right[:, None], shared])


def _genre_metrics(sums: np.ndarray, n_genres: int, *, has_probabilities: bool) -> dict[str, np.ndarray]:
    true, predicted, right = (sums[:, at * n_genres : (at + 1) * n_genres] for at in range(3))
    shared = sums[:, 3 * n_genres :]
    n = shared[:, 0]
    present = true + predicted > 0

    def macro(denominator: np.ndarray) -> np.ndarray:
        return np.where(denominator > 0, right / denominator, 0.0).sum(axis=1) / present.sum(axis=1)

    metrics = {
        "accuracy": shared[:, 1] / n,
        "precision_macro": macro(predicted),
        "recall_macro": macro(true),
        "f1_macro": macro((true + predicted) / 2),
    }
    if has_probabilities:
        metrics["top3_accuracy"] = shared[:, 2] / n
        metrics["log_loss"] = shared[:, 3] / n
        metrics["ece"] = np.abs(shared[:, 4:]).sum(axis=1) / n
    return metrics


def _popularity_statistics(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    error = y_pred - y_true
    centred = y_true - y_true.mean()
    return np.column_stack([np.ones_like(error), error**2, np.abs(error), centred, centred**2])


def _popularity_metrics(sums: np.ndarray) -> dict[str, np.ndarray]:
    n, squared, absolute, total, total_squared = sums.T
    variation = total_squared - total**2 / n
    return {
        "rmse": np.sqrt(squared / n),
        "mae": absolute / n,
        "r2": np.where(variation > 0, 1 - squared / variation, np.nan),
    }


def _sum_by_unit(per_row: np.ndarray, unit: np.ndarray) -> np.ndarray:
    sums = np.zeros((int(unit.max()) + 1, per_row.shape[1]))
    np.add.at(sums, unit, per_row)
    return sums.astype(np.float32)

"""How sure a figure is: bootstrap replicates of every metric from the per-row predictions. Knows arrays only.

The rows that were predicted are resampled with replacement, or whole groups of rows where rows of one group are not
independent, and each metric is computed anew. Two sets of predictions of the same rows see the same resamples, so that
the difference of their replicates is a paired comparison. What is not covered is how the training rows happened to be
drawn; seeds show the spread of what is random in training.

More than 100,000 rows or groups are first put into 20,000 bags of equally many, at random, and bags are resampled: the
spread of a sum over bags of independent parts is that of the sum over the parts, but for one part in 100. Spearman's
rank correlation is then taken as the sum of its rows' influences. Time and memory thus grow little with the rows.

Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13 (percentile interval); groups: Davison
and Hinkley (1997), Bootstrap Methods and their Application, section 3.8 (resampling whole clusters), and section 2.7
(influences); bags: Wolter (2007), Introduction to Variance Estimation, chapter 2 (random groups).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy import sparse

from tasks.evaluation.metrics import CALIBRATION_BINS, confidence_bin, log_losses, within_top

REPLICATES = 1_000
CONFIDENCE = 0.95
BLOCK = 500_000  # weights held at once: what fits into a processor's cache
ROWS_AT_ONCE = 250_000  # whose statistics are held at once
MOST_UNITS = 100_000  # that are resampled one by one
BAGS = 20_000  # that more of them are put into


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
    is_bagged = len(distinct) > MOST_UNITS
    if is_bagged:
        unit, distinct = _bags(distinct)[unit], np.arange(BAGS)
    if task == "genre":
        n_genres = _n_genres(y_true, y_pred, probabilities)
    else:
        centre = y_true.mean()

    def statistics(rows: slice) -> np.ndarray:
        if task == "genre":
            shares = None if probabilities is None else probabilities[rows]
            return _genre_statistics(y_true[rows], y_pred[rows], shares, n_genres)
        return _popularity_statistics(y_true[rows], y_pred[rows], centre)

    per_unit = _sums_by_unit(statistics, slices, unit, len(distinct))
    spearman = {}
    if task == "popularity":
        kind = LinearSpearman if is_bagged else WeightedSpearman
        spearman = {name: kind(y_true[chosen], y_pred[chosen], unit[chosen]) for name, chosen in slices.items()}
    blocks: dict[tuple[str, str], list[np.ndarray]] = {}
    for weights in _resamples(distinct, len(distinct) if is_bagged else len(units), n_replicates):
        for name in slices:
            sums = (weights.T @ per_unit[name]).astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                if task == "genre":
                    found = _genre_metrics(sums, n_genres, has_probabilities=probabilities is not None)
                else:
                    found = _popularity_metrics(sums)
                    found["spearman"] = spearman[name](weights)
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
    """How often each unit is drawn in each resample, in blocks of shape (n_units, n); the same for the same units."""
    random = _random(units)
    at_once = max(1, BLOCK // n_rows)
    for start in range(0, n_replicates, at_once):
        n = min(at_once, n_replicates - start)
        drawn = random.integers(0, len(units), size=(n, len(units)), dtype=np.int64)
        drawn += np.arange(n)[:, None] * len(units)
        counts = np.bincount(drawn.ravel(), minlength=n * len(units)).reshape(n, -1)
        yield np.ascontiguousarray(counts.T, dtype=np.float32)


def _bags(units: np.ndarray) -> np.ndarray:
    """The bag of each unit, (n_units,); the same for the same units."""
    return _random(units).permutation(np.arange(len(units)) % BAGS)


def _random(units: np.ndarray) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(np.ascontiguousarray(units, dtype=np.int64).tobytes()))


class WeightedSpearman:
    """Spearman's rank correlation of fixed pairs under many sets of whole-number weights (ties share their mean rank).

    Args: x, y: shape (n_rows,). unit: (n_rows,), the unit of each row.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, unit: np.ndarray) -> None:
        self._order = np.argsort(y, kind="stable")
        self._unit = unit[self._order]
        self._by_x, self._by_y = (self._sums_by_value(values[self._order]) for values in (x, y))

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """The correlation in each resample, shape (n,), NaN where undefined. Args: weights: shape (n_units, n)."""
        rows = weights[self._unit]
        x_weights, y_weights = self._by_x @ rows, self._by_y @ rows
        x_ranks, y_ranks = _centred_ranks(x_weights), _centred_ranks(y_weights)
        rows *= y_ranks if len(y_ranks) == len(rows) else self._by_y.T @ y_ranks
        covariance = np.einsum("ij,ij->j", x_ranks, self._by_x @ rows, dtype=np.float64)
        variances = [
            np.einsum("ij,ij,ij->j", weight, ranks, ranks, dtype=np.float64)
            for weight, ranks in ((x_weights, x_ranks), (y_weights, y_ranks))
        ]
        with np.errstate(invalid="ignore"):
            return covariance / np.sqrt(variances[0] * variances[1])

    @staticmethod
    def _sums_by_value(values: np.ndarray) -> sparse.csr_matrix:
        """The matrix (n_values, n_rows) that adds up rows of equal value."""
        distinct, value = np.unique(values, return_inverse=True)
        ones = np.ones(len(values), dtype=np.float32)
        return sparse.csr_matrix((ones, (value, np.arange(len(values)))), shape=(len(distinct), len(values)))


class LinearSpearman:
    """As WeightedSpearman for very many rows: the correlation, and what each row adds to it, weighted.

    What is left out falls with the number of rows, the spread that is sought only with its root.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, unit: np.ndarray) -> None:
        (a, above_x), (b, above_y) = _shares_below(x), _shares_below(y)
        product, x_square, y_square = (a * b).mean(), (a * a).mean(), (b * b).mean()
        with np.errstate(divide="ignore", invalid="ignore"):
            self._value = product / np.sqrt(x_square * y_square)
            influence = (a * b + above_x(b) + above_y(a) - 3 * product) / np.sqrt(x_square * y_square)
            influence -= self._value / 2 * (a * a + 2 * above_x(a) - 3 * x_square) / x_square
            influence -= self._value / 2 * (b * b + 2 * above_y(b) - 3 * y_square) / y_square
        self._influence, self._rows = np.bincount(unit, influence, BAGS), np.bincount(unit, minlength=BAGS)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """As WeightedSpearman's."""
        return self._value + (weights.T @ self._influence) / (weights.T @ self._rows)


def _shares_below(values: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The share of rows below each value, of equal ones half, less 1/2: (n_rows,).

    Returns: besides, a function that gives for each row the mean over all rows of its argument where the value is
        above the row's, of equal ones half.
    """
    distinct, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    below = (np.cumsum(counts) - counts / 2) / len(values) - 0.5

    def above(other: np.ndarray) -> np.ndarray:
        by_value = np.bincount(place, other, len(distinct))
        return ((by_value.sum() - np.cumsum(by_value) + by_value / 2) / len(values))[place]

    return below[place], above


def _centred_ranks(weights: np.ndarray) -> np.ndarray:
    """The mean rank of each value, less the mean over all rows. Args: weights: (n_values, n), values ascending."""
    ranks = np.cumsum(weights, axis=0)
    ranks -= ranks[-1:] / 2
    ranks -= weights / 2
    return ranks


# After each genre's true, predicted and right rows come: rows, right rows, right within three, log loss, and for each
# bin of confidence the sum of confidence minus rightness.
_N_SHARED = 4 + CALIBRATION_BINS


def _n_genres(y_true: np.ndarray, y_pred: np.ndarray, probabilities: np.ndarray | None) -> int:
    return max(int(max(y_true.max(), y_pred.max())) + 1, 0 if probabilities is None else probabilities.shape[1])


def _genre_statistics(
    y_true: np.ndarray, y_pred: np.ndarray, probabilities: np.ndarray | None, n_genres: int
) -> np.ndarray:
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


def _popularity_statistics(y_true: np.ndarray, y_pred: np.ndarray, centre: float) -> np.ndarray:
    error = y_pred - y_true
    centred = y_true - centre
    return np.column_stack([np.ones_like(error), error**2, np.abs(error), centred, centred**2])


def _popularity_metrics(sums: np.ndarray) -> dict[str, np.ndarray]:
    n, squared, absolute, total, total_squared = sums.T
    variation = total_squared - total**2 / n
    return {
        "rmse": np.sqrt(squared / n),
        "mae": absolute / n,
        "r2": np.where(variation > 0, 1 - squared / variation, np.nan),
    }


def _sums_by_unit(
    statistics: Callable[[slice], np.ndarray], slices: Mapping[str, np.ndarray], unit: np.ndarray, n_units: int
) -> dict[str, np.ndarray]:
    """The statistics of each unit's rows, added up, by slice: shape (n_units, n_statistics), float32."""
    sums: dict[str, np.ndarray] = {}
    for start in range(0, len(unit), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        per_row = statistics(rows)
        for name, chosen in slices.items():
            members = (chosen[rows].astype(np.float64), (unit[rows], np.arange(len(per_row))))
            found = sparse.csr_matrix(members, shape=(n_units, len(per_row))) @ per_row
            sums[name] = sums[name] + found if name in sums else found
    return {name: values.astype(np.float32) for name, values in sums.items()}

"""Uncertainty of metrics: bootstrap replicates of every metric from per-row predictions. Works on arrays only.

The predicted rows are resampled with replacement, and each metric is computed again. Where rows are not independent,
whole groups of them are the resampling units. Predictions of the same rows by two models see the same resamples, so
the difference of their replicates is a paired comparison. The sampling of training rows is not covered; the variance
between seeds shows what is random in training.

More than 100,000 units are first assigned to 20,000 random groups of equal size, and these groups are resampled. That
changes the standard deviation of a sum of independent units by at most about 1 %. Spearman's rank correlation is then
approximated by the sum of its rows' influences. Time and memory therefore grow little with the number of rows.

Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13 (percentile interval); Davison and
Hinkley (1997), Bootstrap Methods and their Application, sections 3.8 (resampling whole clusters) and 2.7 (influences);
Wolter (2007), Introduction to Variance Estimation, chapter 2 (random groups).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy import sparse

from tasks.evaluation.metrics import CALIBRATION_BINS, confidence_bin, means_of, row_values

N_REPLICATES = 1_000
CONFIDENCE = 0.95
BLOCK = 500_000  # weights held at a time; they fit into a processor's cache
ROWS_AT_ONCE = 250_000  # rows whose statistics are held at a time
MOST_UNITS = 100_000  # units that are resampled one by one
RANDOM_GROUPS = 20_000  # number of groups that more units are assigned to


def replicates(
    task: str,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    probabilities: np.ndarray | None,
    slices: Mapping[str, np.ndarray],
    units: np.ndarray,
    n_replicates: int = N_REPLICATES,
) -> dict[tuple[str, str], np.ndarray]:
    """Returns bootstrap replicates of each metric of `task` on each slice.

    Args: y_true, y_pred: shape (n_rows,): genre codes, or popularity points. probabilities: (n_rows, n_genres) or None.
        slices: by name, shape (n_rows,), bool. units: (n_rows,), the resampling unit of each row.

    Returns: by slice and metric, shape (n_replicates,); NaN where a resample does not define the metric.
    """
    distinct, unit = np.unique(units, return_inverse=True)
    is_grouped = len(distinct) > MOST_UNITS
    if is_grouped:
        unit, distinct = _random_groups(distinct)[unit], np.arange(RANDOM_GROUPS)
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
        kind = LinearSpearman if is_grouped else WeightedSpearman
        spearman = {name: kind(y_true[chosen], y_pred[chosen], unit[chosen]) for name, chosen in slices.items()}
    blocks: dict[tuple[str, str], list[np.ndarray]] = {}
    for weights in _resamples(distinct, len(distinct) if is_grouped else len(units), n_replicates):
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


def percentile_interval(values: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """Returns the percentile interval of bootstrap replicates; None if more than half of them are undefined."""
    defined = values[np.isfinite(values)]
    if len(defined) * 2 < len(values):
        return None, None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _resamples(units: np.ndarray, n_rows: int, n_replicates: int) -> Iterator[np.ndarray]:
    """Yields how often each resample draws each unit, in blocks (n_units, n); the units decide the random seed."""
    random = _random(units)
    at_once = max(1, BLOCK // n_rows)
    for start in range(0, n_replicates, at_once):
        n = min(at_once, n_replicates - start)
        drawn = random.integers(0, len(units), size=(n, len(units)), dtype=np.int64)
        drawn += np.arange(n)[:, None] * len(units)
        counts = np.bincount(drawn.ravel(), minlength=n * len(units)).reshape(n, -1)
        yield np.ascontiguousarray(counts.T, dtype=np.float32)


def _random_groups(units: np.ndarray) -> np.ndarray:
    """Returns the random group of each unit, (n_units,); the units decide the random seed."""
    return _random(units).permutation(np.arange(len(units)) % RANDOM_GROUPS)


def _random(units: np.ndarray) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(np.ascontiguousarray(units, dtype=np.int64).tobytes()))


class WeightedSpearman:
    """Spearman's rank correlation of fixed pairs for many sets of integer weights; ties have their mean rank.

    Args: x, y: shape (n_rows,). unit: (n_rows,), the unit of each row.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, unit: np.ndarray) -> None:
        self._order = np.argsort(y, kind="stable")
        self._unit = unit[self._order]
        self._by_x, self._by_y = (self._sums_by_value(values[self._order]) for values in (x, y))

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Returns the correlation in each resample, (n,); NaN where undefined. Args: weights: shape (n_units, n)."""
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
        """Returns the matrix (n_values, n_rows) that sums rows of equal value."""
        distinct, value = np.unique(values, return_inverse=True)
        ones = np.ones(len(values), dtype=np.float32)
        return sparse.csr_matrix((ones, (value, np.arange(len(values)))), shape=(len(distinct), len(values)))


class LinearSpearman:
    """Linear approximation of WeightedSpearman for many rows: the correlation plus the weighted influence of each row.

    The error falls with the number of rows, and the standard deviation of the correlation only with its square root.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, unit: np.ndarray) -> None:
        (a, above_x), (b, above_y) = _shares_below(x), _shares_below(y)
        product, x_square, y_square = (a * b).mean(), (a * a).mean(), (b * b).mean()
        with np.errstate(divide="ignore", invalid="ignore"):
            self._value = product / np.sqrt(x_square * y_square)
            influence = (a * b + above_x(b) + above_y(a) - 3 * product) / np.sqrt(x_square * y_square)
            influence -= self._value / 2 * (a * a + 2 * above_x(a) - 3 * x_square) / x_square
            influence -= self._value / 2 * (b * b + 2 * above_y(b) - 3 * y_square) / y_square
        self._influence, self._rows = (
            np.bincount(unit, influence, RANDOM_GROUPS),
            np.bincount(unit, minlength=RANDOM_GROUPS),
        )

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Returns the approximate correlation in each resample; arguments as for WeightedSpearman."""
        return self._value + (weights.T @ self._influence) / (weights.T @ self._rows)


def _shares_below(values: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Returns the centred share of rows below each value, and a function of the rows above each value.

    Returns: the share, (n_rows,): equal rows count half, and 1/2 is subtracted. The function takes (n_rows,) and
        returns, for each row, the mean over all rows of its argument where the value is larger; equal rows count half.
    """
    distinct, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    below = (np.cumsum(counts) - counts / 2) / len(values) - 0.5

    def above(other: np.ndarray) -> np.ndarray:
        by_value = np.bincount(place, other, len(distinct))
        return ((by_value.sum() - np.cumsum(by_value) + by_value / 2) / len(values))[place]

    return below[place], above


def _centred_ranks(weights: np.ndarray) -> np.ndarray:
    """Returns the mean rank of each value minus that of all rows. Args: weights: (n_values, n), values ascending."""
    ranks = np.cumsum(weights, axis=0)
    ranks -= ranks[-1:] / 2
    ranks -= weights / 2
    return ranks


def _n_genres(y_true: np.ndarray, y_pred: np.ndarray, probabilities: np.ndarray | None) -> int:
    return max(int(max(y_true.max(), y_pred.max())) + 1, 0 if probabilities is None else probabilities.shape[1])


def _genre_statistics(
    y_true: np.ndarray, y_pred: np.ndarray, probabilities: np.ndarray | None, n_genres: int
) -> np.ndarray:
    """Returns for each row: its true, predicted and correct genre, 1, the values that metrics are means of, confidence.

    Confidence stands in the column of its bin, less 1 if the genre is correct; without probabilities there is none.
    """
    one_hot = np.eye(n_genres)
    right = y_true == y_pred
    columns = [one_hot[y_true], one_hot[y_pred], one_hot[y_true] * right[:, None], np.ones((len(y_true), 1))]
    columns += [
        row_values(metric, y_true, y_pred, probabilities)[:, None]
        for metric in means_of("genre", has_probabilities=probabilities is not None)
    ]
    if probabilities is not None:
        confidence = probabilities.max(axis=1)
        surplus = np.zeros((len(y_true), CALIBRATION_BINS))
        surplus[np.arange(len(y_true)), confidence_bin(confidence)] = confidence - right
        columns.append(surplus)
    return np.hstack(columns)


def _genre_metrics(sums: np.ndarray, n_genres: int, *, has_probabilities: bool) -> dict[str, np.ndarray]:
    true, predicted, right = (sums[:, at * n_genres : (at + 1) * n_genres] for at in range(3))
    n = sums[:, 3 * n_genres]
    means = means_of("genre", has_probabilities=has_probabilities)
    others = sums[:, 3 * n_genres + 1 :]
    present = true + predicted > 0

    def macro(denominator: np.ndarray) -> np.ndarray:
        return np.where(denominator > 0, right / denominator, 0.0).sum(axis=1) / present.sum(axis=1)

    found = {metric.name: others[:, at] / n for at, metric in enumerate(means)}
    found["precision_macro"] = macro(predicted)
    found["recall_macro"] = macro(true)
    found["f1_macro"] = macro((true + predicted) / 2)
    if has_probabilities:
        found["ece"] = np.abs(others[:, len(means) :]).sum(axis=1) / n
    return found


def _popularity_statistics(y_true: np.ndarray, y_pred: np.ndarray, centre: float) -> np.ndarray:
    """Returns for each row: 1, its squared error, the values that metrics are means of, its popularity, squared."""
    error = y_pred - y_true
    centred = y_true - centre
    means = [row_values(metric, y_true, y_pred, None) for metric in means_of("popularity", has_probabilities=False)]
    return np.column_stack([np.ones_like(error), error**2, *means, centred, centred**2])


def _popularity_metrics(sums: np.ndarray) -> dict[str, np.ndarray]:
    n, squared, *means, total, total_squared = sums.T
    variation = total_squared - total**2 / n
    names = [metric.name for metric in means_of("popularity", has_probabilities=False)]
    return {
        "rmse": np.sqrt(squared / n),
        **{name: values / n for name, values in zip(names, means, strict=True)},
        "r2": np.where(variation > 0, 1 - squared / variation, np.nan),
    }


def _sums_by_unit(
    statistics: Callable[[slice], np.ndarray], slices: Mapping[str, np.ndarray], unit: np.ndarray, n_units: int
) -> dict[str, np.ndarray]:
    """Returns the sums of each unit's statistics by slice: shape (n_units, n_statistics), float32."""
    sums: dict[str, np.ndarray] = {}
    for start in range(0, len(unit), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        per_row = statistics(rows)
        for name, chosen in slices.items():
            members = (chosen[rows].astype(np.float64), (unit[rows], np.arange(len(per_row))))
            found = sparse.csr_matrix(members, shape=(n_units, len(per_row))) @ per_row
            sums[name] = sums[name] + found if name in sums else found
    return {name: values.astype(np.float32) for name, values in sums.items()}

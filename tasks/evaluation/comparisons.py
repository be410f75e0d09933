"""Whether one figure differs from another: paired intervals and tests from stored bootstrap replicates.

Models are compared by their means over seeds. Each replicate also resamples the seeds, so that the variance between
seeds is included. With one seed, only the sampling of test rows is.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import stats

from tasks.evaluation.bootstrap import percentile_interval

Replicates = Mapping[tuple[str, str, str], np.ndarray]  # by cell result, task and metric: shape (n_replicates,)


def contrast(pairs: pa.Table, replicates: Replicates) -> pa.Table:
    """Adds ci_low, ci_high (95 %) and p_value of `value_a - value_b` to each row.

    Args: pairs: columns task, metric, value_a, value_b, results_a and results_b (folders of cells, one for each seed).

    Returns: `pairs` with the three columns; NULL where replicates are undefined or missing. p_value is two-sided and
        uses the bootstrap's standard error, with Student's t distribution if there are several seeds, else the normal.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 12 and 13; Satterthwaite (1946) for
        the degrees of freedom.
    """
    averages: dict[tuple[tuple[str, ...], str, str], Average | None] = {}

    def average(results: list[str], task: str, metric: str) -> Average | None:
        key = (tuple(results), task, metric)
        if key not in averages:
            found = [replicates[result, task, metric] for result in results if (result, task, metric) in replicates]
            averages[key] = Average.of(found, results) if len(found) == len(results) else None
        return averages[key]

    lows, highs, p_values = [], [], []
    for row in pairs.select(["task", "metric", "value_a", "value_b", "results_a", "results_b"]).to_pylist():
        a, b = (average(row[side], row["task"], row["metric"]) for side in ("results_a", "results_b"))
        low, high = percentile_interval(a.replicates - b.replicates) if a and b else (None, None)
        lows.append(low)
        highs.append(high)
        p_values.append(_p_value(row["value_a"] - row["value_b"], a, b) if a and b and low is not None else None)
    for name, values in (("ci_low", lows), ("ci_high", highs), ("p_value", p_values)):
        pairs = pairs.append_column(name, pa.array(values, pa.float64()))
    return pairs


@dataclass(frozen=True, slots=True)
class Average:
    """The mean of a metric over seeds, with its bootstrap replicates."""

    replicates: np.ndarray  # (n_replicates,)
    seed_variance: float  # variance of the mean that is due to seeds; 0 for one seed
    seeds: int

    @classmethod
    def of(cls, by_seed: list[np.ndarray], results: list[str]) -> Average:
        """Averages the replicates of several seeds; each replicate is the mean over seeds drawn with replacement.

        Drawing k of k seeds understates the standard deviation by the factor sqrt((k - 1) / k). The draws are scaled up
        by its inverse.
        """
        stacked = np.stack(by_seed)
        seeds = len(stacked)
        if seeds == 1:
            return cls(stacked[0], 0.0, 1)
        random = np.random.default_rng(zlib.crc32("".join(results).encode()))
        drawn = np.take_along_axis(stacked, random.integers(0, seeds, size=stacked.shape), axis=0).mean(axis=0)
        mean = stacked.mean(axis=0)
        seed_variance = float(np.nanvar(np.nanmean(stacked, axis=1), ddof=1)) / seeds
        return cls(mean + (drawn - mean) * np.sqrt(seeds / (seeds - 1)), seed_variance, seeds)


def _p_value(difference: float, a: Average, b: Average) -> float:
    variance = float(np.nanvar(a.replicates - b.replicates, ddof=1))
    if variance == 0:
        return 1.0 if difference == 0 else 0.0
    of_seeds = sum(side.seed_variance**2 / (side.seeds - 1) for side in (a, b) if side.seeds > 1)
    freedom = variance**2 / of_seeds if of_seeds > 0 else np.inf
    return float(2 * stats.t.sf(abs(difference) / np.sqrt(variance), freedom))

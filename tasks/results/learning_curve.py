"""Queries of a published learning curve: its points, and the gain of its last doubling, also in words."""

from __future__ import annotations

import duckdb

from tasks.results.run_queries import Row, Rows, rows, signed
from tasks.specs import HEADLINES, METRICS


def curve_of(connection: duckdb.DuckDBPyConnection, run_id: str) -> Rows:
    """Returns a run's learning curves by the headline metric; no rows if the run is of another flow.

    Args: connection: to the published database.

    Returns: rows of results.learning_curve, failed cells last.
    """
    return rows(
        connection,
        """
        select * from results.learning_curve
        where run_id = $run_id and (list_contains($headlines, metric) or metric is null)
        order by status <> 'ok', task, model, feature_set, n_train, train_rows
        """,
        run_id=run_id,
        headlines=[metric.name for metric in HEADLINES.values()],
    )


def last_gains(connection: duckdb.DuckDBPyConnection, run_id: str) -> Rows:
    """Returns the last step of each curve of a run from results.learning_gains, the largest gain first.

    Returns: rows with two more columns: `gain_before`, the gain of the step before (None for a curve of two points),
        and `slower`, by what factor the fit took longer.
    """
    return rows(
        connection,
        """
        with steps as (
            select gains.*,
                lag(gains.gain) over (curve order by gains.rows_after) as gain_before,
                a.fit_seconds / b.fit_seconds as slower
            from results.learning_gains as gains
            inner join results.learning_curve as a
                on a.run_id = gains.run_id and a.task = gains.task and a.model = gains.model
                    and a.feature_set = gains.feature_set and a.metric = gains.metric and a.n_train = gains.rows_after
            inner join results.learning_curve as b
                on b.run_id = gains.run_id and b.task = gains.task and b.model = gains.model
                    and b.feature_set = gains.feature_set and b.metric = gains.metric and b.n_train = gains.rows_before
            where gains.run_id = $run_id
            window curve as (partition by gains.task, gains.model, gains.feature_set)
        )
        select * from steps where is_last order by task, gain desc, model
        """,
        run_id=run_id,
    )


def answer(step: Row) -> str:
    """Returns a sentence on whether more data would help a model, judged by the gain of the last doubling."""
    digits, name = METRICS[step["metric"]].digits, METRICS[step["metric"]].label
    gain, low, high = (signed(step[column], digits) for column in ("gain", "gain_low", "gain_high"))
    before = "" if step["gain_before"] is None else f"; the doubling before: {signed(step['gain_before'], digits)}"
    gained = (
        f"{step['model']}: the last doubling, from {step['rows_before']:,} to {step['rows_after']:,} rows, gained "
        f"{gain} ({name} {step['value_before']:.{digits}f} to {step['value_after']:.{digits}f}; 95 % interval {low} to "
        f"{high}{before})"
    )
    if step["gain_low"] > 0:
        return f"{gained}: more data like this would still help."
    if step["gain_high"] < 0:
        return f"{gained}: the added rows did harm."
    return f"{gained}: there is no evidence that more data like this would help."

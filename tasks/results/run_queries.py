"""Run queries: the results of a run, read from the publication by SQL, for the terminal, reports and the Prefect UI."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import duckdb

from tasks.errors import UserError, one_line
from tasks.specs import HEADLINES, METRICS, STUDY_SEED
from tasks.storage import duck

EARLIER_VERSION = (
    "music.duckdb was published by an earlier version. Publish it again: "
    "python -m flows.features --source snapshot:latest"
)

# The metrics that a task's leaderboard lists; models are ranked by the first.
LEADERBOARDS: dict[str, tuple[str, ...]] = {
    task: tuple(
        metric.name
        for metric in sorted(METRICS.values(), key=lambda metric: not metric.is_headline)
        if metric.task == task and metric.is_listed
    )
    for task in HEADLINES
}
# The question that is suggested after a run: few columns, of every model.
BOARD = "select protocol, model, feature_set, accuracy, rmse from results.leaderboard"
# The same of a trial, which is not on that leaderboard.
BOARD_OF_RUN = "select protocol, model, feature_set, accuracy, rmse from results.scores"
Row = dict[str, Any]


class Rows(list[Row]):
    """Rows by column name, with the SELECT that returns them."""

    sql = ""


def rows(connection: duckdb.DuckDBPyConnection, query: str, **values: object) -> Rows:
    """Returns the rows of one of this version's queries by column name; `values` are bound as `$name`.

    Raises: UserError: the publication lacks a column, because an earlier version published it.
    """
    try:
        result = connection.execute(query, values)
    except duckdb.BinderException as error:
        raise UserError(f"{EARLIER_VERSION} ({one_line(error)})") from error
    names = [column[0] for column in result.description]
    found = Rows(dict(zip(names, row, strict=True)) for row in result.fetchall())
    found.sql = _with_values(query, values)
    return found


def _with_values(query: str, values: dict[str, object]) -> str:
    """Returns a query with its values in place of their names, for a reader to run."""
    return re.sub(
        r"\$(\w+)", lambda name: _literal(values[name[1]]) if name[1] in values else name[0], dedent(query).strip()
    )


def _literal(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return duck.literal(value) if isinstance(value, str) else str(value)


def run_of(connection: duckdb.DuckDBPyConnection, run_id: str) -> Row:
    """Returns the run's row of results.runs."""
    return rows(connection, "select * from results.runs where run_id = $run_id", run_id=run_id)[0]


def trial(connection: duckdb.DuckDBPyConnection, run: Row) -> str | None:
    """Returns what a run of another than the current catalogue is, in words; None for one of the current catalogue."""
    current = [row["source"] for row in rows(connection, "select source from results.catalogues where is_current")]
    if run["is_current"] or not current:
        return None
    return (
        f"This run is a trial beside the current catalogue, {one_line(current[0])}, whose champions predict new tracks."
    )


def protocols(connection: duckdb.DuckDBPyConnection, run_id: str, *, with_probes: bool = False) -> list[str]:
    """Returns the protocols with results in the run, probes last if they are wanted."""
    found = rows(
        connection,
        """
        select distinct protocol, is_probe
        from results.scores
        inner join results.protocols using (protocol)
        where run_id = $run_id and (not is_probe or $with_probes)
        order by is_probe, protocol desc
        """,
        run_id=run_id,
        with_probes=with_probes,
    )
    return [row["protocol"] for row in found]


def leaderboard(connection: duckdb.DuckDBPyConnection, run_id: str, protocol: str, task: str) -> Rows:
    """Returns the run's models and feature sets, best first, as means over seeds.

    `low` and `high` are the ends of the first metric's interval.
    """
    metrics = LEADERBOARDS[task]
    means = ", ".join(f"avg({name}) as {name}" for name in metrics)
    return rows(
        connection,
        f"""
        select model, feature_set, count(*) as seeds, min(seed) as seed, {means}, stddev_samp({metrics[0]}) as sd,
            avg({metrics[0]}_low) as low, avg({metrics[0]}_high) as high, avg(fit_seconds) as fit_seconds,
            avg(predict_seconds) as predict_seconds, max(peak_rss_mb) as peak_rss_mb, bool_and(reused) as reused,
            max(n_train) as n_train, max(sampled_from) as sampled_from, any_value(sample_reason) as sample_reason
        from results.scores
        inner join results.feature_sets using (feature_set)
        where run_id = $run_id and task = $task and protocol = $protocol and leaks is null
        group by model, feature_set
        order by {metrics[0]} {"desc" if METRICS[metrics[0]].higher_is_better else "asc"}, model, feature_set
        """,
        run_id=run_id,
        task=task,
        protocol=protocol,
    )


def cross_validated(connection: duckdb.DuckDBPyConnection, run_id: str, protocol: str, task: str) -> Rows:
    """Returns the models and feature sets that the run cross-validated, best first, as means over seeds.

    Metrics, `low` and `high` are as those of `leaderboard`, over all rows; `sd` is the first metric's over folds.
    """
    metrics = LEADERBOARDS[task]
    values = ", ".join(f"avg(value) filter (where metric = '{name}') as {name}" for name in metrics)
    headline = f"filter (where metric = '{metrics[0]}')"
    return rows(
        connection,
        f"""
        select model, feature_set, folds, fold_seed, {values}, avg(fold_sd) {headline} as sd,
            avg(ci_low) {headline} as low, avg(ci_high) {headline} as high, max(n) as n, max(n_train) as n_train,
            avg(fit_seconds) as fit_seconds
        from results.cross_validations
        where run_id = $run_id and task = $task and protocol = $protocol
        group by model, feature_set, folds, fold_seed
        order by {metrics[0]} {"desc" if METRICS[metrics[0]].higher_is_better else "asc"}, model, feature_set
        """,
        run_id=run_id,
        task=task,
        protocol=protocol,
    )


def leaks(connection: duckdb.DuckDBPyConnection, run: Row) -> list[Row]:
    """Returns the headline rows of results.leak_ledger for the run's catalogue and tracks; none unless budget full."""
    if run["budget"] != "full":
        return []
    return rows(
        connection,
        """
        select *
        from results.leak_ledger
        where inflation is not null and list_contains($headlines, metric) and catalogue = $catalogue
            and staging_version in (select staging_version from results.cells where run_id = $run_id)
        """,
        run_id=run["run_id"],
        catalogue=run["catalogue"],
        headlines=[metric.name for metric in HEADLINES.values()],
    )


def parity(connection: duckdb.DuckDBPyConnection, run: Row) -> list[Row]:
    """Returns results.parity; no rows unless the run is of the study's own file with budget full."""
    if not run["is_study_file"] or run["budget"] != "full":
        return []
    return rows(connection, "select * from results.parity")


def cell_counts(connection: duckdb.DuckDBPyConnection, run_id: str) -> Row:
    """Returns how many cells the run has, and how many of them are ok, reused and not ok."""
    return rows(
        connection,
        """
        select count(*) as n, count(*) filter (where status = 'ok') as ok, count(*) filter (where reused) as reused,
            count(*) filter (where status <> 'ok') as failed
        from (
            select distinct protocol, model, feature_set, seed, fold, cell_key, status, reused
            from (from results.cells union all by name from results.fold_cells)
            where run_id = $run_id
        )
        """,
        run_id=run_id,
    )[0]


def failures(connection: duckdb.DuckDBPyConnection, run_id: str) -> Rows:
    """Returns the run's cells that did not succeed, with their errors."""
    return rows(
        connection,
        """
        select protocol || coalesce(', fold ' || fold || ' of ' || folds, '') as protocol,
            string_agg(task, ' and ' order by task) as tasks, model, feature_set, seed, status, error
        from (from results.cells union all by name from results.fold_cells)
        where run_id = $run_id and status <> 'ok'
        group by cell_key, protocol, fold, folds, model, feature_set, seed, status, error
        order by all
        """,
        run_id=run_id,
    )


def number(value: float | None, digits: int = 3) -> str:
    """Returns a number as text with `digits` decimals, zero without a minus; empty for None."""
    return "" if value is None else f"{value:z.{digits}f}"


def signed(value: float, digits: int) -> str:
    """Returns a difference as text with its sign; what is rounded to zero has a plus."""
    return f"{value:+z.{digits}f}"


def protocol_of(row: Row) -> str:
    """Returns the protocol of a cell, with the fold that it is of."""
    return str(row["protocol"]) + ("" if row["fold"] is None else f", fold {row['fold']} of {in_folds(row)}")


def in_folds(row: Row) -> str:
    """Returns the number of folds of a cross-validation, with their seed if it is not the study's."""
    return f"{row['folds']} folds" + ("" if row["fold_seed"] == STUDY_SEED else f" of seed {row['fold_seed']}")


def sampled(row: Row) -> str:
    """Returns the text of a leaderboard's row for a model trained on a sample of the rows; empty for all others."""
    return "" if row["sampled_from"] is None else f"{row['n_train']:,} of {row['sampled_from']:,} rows"


def interval_text(low: float | None, high: float | None, digits: int = 3) -> str:
    """Returns an interval as `low .. high`; empty if there is none."""
    return "" if low is None or high is None else f"{number(low, digits)} .. {number(high, digits)}"

"""What changed from one run to another, figure by figure, for programs and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.errors import UserError
from tasks.reporting.comparison import paired
from tasks.results import database, run_queries
from tasks.results.run_queries import Row, interval_text, signed
from tasks.specs import METRICS
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

WORSE, BETTER, SAME, CHANCE, UNPAIRED = "worse", "better", "same cell", "could be chance", "other test rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVerdicts:
    """The figures of two runs side by side.

    Args:
        run: the run after, a row of results.runs.
        before: the run before.
        figures: one for each metric, protocol, task, model and feature set that both have, with the difference (after
            minus before), its 95 % interval and a verdict: worse, better, same cell, could be chance, or other test
            rows, where the difference has no interval.
        lost: cells that failed in the run after and not in the one before, rows of sql/report/changed_cells.sql.
        watched: the metrics that must not get worse.
    """

    run: Row
    before: Row
    figures: list[Row]
    lost: list[Row]
    watched: list[str]

    @property
    def worse(self) -> list[Row]:
        """The figures of the watched metrics that got worse."""
        return [row for row in self.figures if row["metric"] in self.watched and row["verdict"] == WORSE]

    @property
    def broken(self) -> list[Row]:
        """The cells that no longer have a watched metric, because they failed."""
        tasks = {METRICS[name].task for name in self.watched}
        return [row for row in self.lost if tasks & {*row["tasks"].split(" and ")}]

    @property
    def gate(self) -> list[str]:
        """What is said of the watched metrics: one line each that got worse, and how many were judged."""
        if not self.watched:
            return []
        rows = [row for row in self.figures if row["metric"] in self.watched]
        judged = [row for row in rows if row["verdict"] != UNPAIRED]
        lines = [
            f"worse: {row['metric']} of {row['model']} on {row['feature_set']} ({row['protocol']}), "
            f"{_value(row, 'before')} before, {_value(row, 'after')} after"
            for row in self.worse
        ]
        lines += [
            f"worse: {row['model']} on {row['feature_set']} ({row['protocol']}) has no result any more, "
            f"{row['status_a']}: {row['error_a']}"
            for row in self.broken
        ]
        left = (
            f"; {len(rows) - len(judged)} are of other test rows and were not judged" if len(judged) < len(rows) else ""
        )
        return [*lines, f"{len(self.worse)} of {len(judged)} figures of {', '.join(self.watched)} got worse{left}"]

    @property
    def facts(self) -> dict[str, Any]:
        """The comparison for programs."""
        return {
            "run": self.run["run_id"],
            "before": self.before["run_id"],
            "same_data": self.run["snapshot"] == self.before["snapshot"],
            "budgets": {"run": self.run["budget"], "before": self.before["budget"]},
            "watched": self.watched,
            "worse": len(self.worse),
            "broken": [
                {
                    name: row[name]
                    for name in ("protocol", "tasks", "model", "feature_set", "seed", "status_a", "error_a")
                }
                for row in self.broken
            ],
            "figures": self.figures,
        }

    def markdown(self) -> str:
        """The comparison as a table of the watched metrics, by default of the headline metrics."""
        shown = self.watched or [metric.name for metric in METRICS.values() if metric.is_headline]
        lines = [
            f"Run `{self.run['run_id']}` after `{self.before['run_id']}`",
            "",
            "| metric | protocol | model | feature set | before | after | difference | 95 % interval | verdict |",
            "|---|---|---|---|--:|--:|--:|--:|---|",
        ]
        for row in self.figures:
            if row["metric"] in shown:
                digits = METRICS[row["metric"]].digits
                cells = [
                    *(row[name] for name in ("metric", "protocol", "model", "feature_set")),
                    *(_value(row, side) for side in ("before", "after")),
                    signed(row["difference"], digits),
                    interval_text(row["ci_low"], row["ci_high"], digits),
                    f"**{WORSE}**" if row["verdict"] == WORSE else row["verdict"],
                ]
                lines.append(f"| {' | '.join(cells)} |")
        lines += [f"\n{line}" for line in self.gate]
        return "\n".join(lines)


def of_runs(run_id: str | None, before_id: str, watched: Sequence[str], warehouse: Warehouse) -> RunVerdicts:
    """Compares two published runs.

    Args: run_id: by default the newest completed run. watched: names of metrics.

    Raises: UserError: there is no such run, they are the same, or no figure of a watched metric can be judged.
    """
    with database.published(warehouse) as connection:
        run, before = database.find_run(connection, run_id), database.find_run(connection, before_id)
        if run["run_id"] == before["run_id"]:
            raise UserError(
                f"--compare {before_id}: is the run itself. Others: select run_id, status from results.runs."
            )
        both = {"run_id": run["run_id"], "other": before["run_id"]}
        rows = run_queries.rows(connection, duck.render("report/compared"), **both)
        cells = run_queries.rows(connection, duck.render("report/changed_cells"), **both)
    figures = [_figure(row) for row in paired(rows, warehouse)]
    lost = [row for row in cells if row["status_a"] not in {"ok", None} and row["status_b"] == "ok"]
    found = RunVerdicts(run=run, before=before, figures=figures, lost=lost, watched=list(watched))
    for metric in () if found.broken else watched:
        if not any(row["metric"] == metric and row["verdict"] != UNPAIRED for row in figures):
            raise UserError(f"--fail-if-worse {metric}: the two runs have no figure of it on the same test rows.")
    return found


def since_the_run_before(run_id: str, watched: Sequence[str], warehouse: Warehouse) -> RunVerdicts | None:
    """Compares a published run with the newest completed one before it of the same catalogue, budget and cells.

    Args: watched: names of metrics; those that cannot be judged are left alone.

    Returns: the comparison; None if there is no such run before.
    """
    with database.published(warehouse) as connection:
        before = run_queries.rows(connection, duck.render("report/run_before"), run_id=run_id)
    return replace(of_runs(run_id, before[0]["run_id"], (), warehouse), watched=list(watched)) if before else None


def _figure(row: Row) -> Row:
    difference, low, high = row["value_a"] - row["value_b"], row["ci_low"], row["ci_high"]
    if row["results_a"] == row["results_b"]:
        verdict = SAME
    elif low is None:
        verdict = UNPAIRED
    elif low <= 0 <= high:
        verdict = CHANCE
    else:
        verdict = BETTER if (difference > 0) == METRICS[row["metric"]].higher_is_better else WORSE
    names = ("protocol", "task", "model", "feature_set", "metric")
    return {
        **{name: row[name] for name in names},
        "before": row["value_b"],
        "after": row["value_a"],
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "verdict": verdict,
    }


def _value(row: Row, side: str) -> str:
    return f"{row[side]:.{METRICS[row['metric']].digits}f}"

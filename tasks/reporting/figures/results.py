"""The report's figures on the models' results; each reads rows by SQL, states its finding and draws it."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from tasks.reporting import sparklines
from tasks.reporting.page import Column, Figure, HtmlTable, numbers
from tasks.reporting.sparklines import Mark, Scale
from tasks.results import run_queries
from tasks.results.run_queries import LEADERBOARDS, Row, interval_text, number
from tasks.specs import FEATURE_SETS, HEADLINES, METRICS
from tasks.storage import duck

NOTHING = "No cell of this kind succeeded in this run."


@dataclass(frozen=True, slots=True)
class Results:
    """The leaderboards of a run, by (protocol, task) in the order of protocols; rows are best first."""

    connection: duckdb.DuckDBPyConnection
    run: Row
    boards: dict[tuple[str, str], list[Row]]

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, run: Row) -> Results:
        """Reads the leaderboards of a run."""
        found = {
            (protocol, task): run_queries.leaderboard(connection, run["run_id"], protocol, task)
            for protocol in run_queries.protocols(connection, run["run_id"])
            for task in LEADERBOARDS
        }
        return cls(connection, run, {key: board for key, board in found.items() if board})

    def of_task(self, task: str) -> dict[str, list[Row]]:
        """Returns the leaderboards of a task, by protocol."""
        return {protocol: board for (protocol, of), board in self.boards.items() if of == task}

    def rows(self, name: str, **values: object) -> list[Row]:
        """Returns the rows of sql/report/<name>.sql for this run."""
        query = duck.render(f"report/{name}")
        return run_queries.rows(self.connection, query, run_id=self.run["run_id"], **values)

    def of_best(self, name: str, protocol: str, task: str) -> tuple[Row, list[Row]]:
        """Returns the best model of a protocol, and its rows of sql/report/<name>.sql for its lowest seed."""
        best = self.boards[protocol, task][0]
        cell = {"protocol": protocol, "model": best["model"], "feature_set": best["feature_set"]}
        return best, self.rows(name, **cell, seed=best["seed"])


def leaderboard(results: Results, task: str) -> Figure:
    """Returns the figure of all models and feature sets with the headline metric and its interval."""
    metrics = LEADERBOARDS[task]
    boards = results.of_task(task)
    scale = Scale.over(value for board in boards.values() for row in board for value in (row["low"], row["high"]))
    plot = f"{METRICS[metrics[0]].label}, 95 % interval"
    columns = [
        Column("model"), Column("features"), Column(plot, "plot"), Column(METRICS[metrics[0]].label, "number"),
        *numbers("interval", *(name.removesuffix("_macro") for name in metrics[1:]), "± seeds"),
    ]  # fmt: skip
    digits = METRICS[metrics[0]].digits
    tables = []
    for protocol, board in boards.items():
        has_seeds = any(row["seeds"] > 1 for row in board)
        rows = [
            [
                f"{row['model']} (sample)" if row["sampled_from"] else row["model"],
                row["feature_set"],
                sparklines.dots(scale, [Mark(row[metrics[0]], row["low"], row["high"])], line=board[0][metrics[0]]),
                number(row[metrics[0]], digits),
                interval_text(row["low"], row["high"], digits),
                *(number(row[name], METRICS[name].digits) for name in metrics[1:]),
                *([number(row["sd"], digits)] if has_seeds else []),
            ]
            for row in board
        ]
        tables.append(
            HtmlTable(
                caption=f"{task.capitalize()}, protocol {protocol}",
                columns=columns if has_seeds else columns[:-1],
                rows=rows,
                axis=sparklines.axis(scale, sparklines.plain),
                shown=10,
            )
        )
    leads = results.rows("leads")
    findings = [best_in_words(protocol, board, metrics[0], leads) for protocol, board in boards.items()]
    return Figure(
        name=f"leaderboard-{task}",
        title=f"{task.capitalize()}: {METRICS[metrics[0]].label} on test rows",
        finding="\n".join(findings) or NOTHING,
        tables=tables,
        note=" ".join(["The vertical line is the best model's figure.", *_samples(boards)]) if tables else "",
    )


def _samples(boards: dict[str, list[Row]]) -> list[str]:
    """Returns which models were trained on a sample of the rows because the table is out of core, and why."""
    return sorted(
        {
            f"{row['model']} was trained on a stratified sample, {run_queries.sampled(row)}: {row['sample_reason']}."
            for board in boards.values()
            for row in board
            if row["sampled_from"]
        }
    )


def best_in_words(protocol: str, board: list[Row], metric: str, leads: list[Row]) -> str:
    """Returns which model is best, and whether its lead over the next is beyond chance.

    Args: leads: rows of sql/report/leads.sql.
    """
    best, digits = board[0], METRICS[metric].digits
    figure = f"{METRICS[metric].label} {number(best[metric], digits)}"
    text = f"{protocol}: {best['model']} on {best['feature_set']} is best, {figure}"
    if best["low"] is not None:
        text += f" ({best['low']:.{digits}f} to {best['high']:.{digits}f})"
    others = [row for row in board if row["model"] != best["model"]]
    if others:
        lead, second = f"{abs(best[metric] - others[0][metric]):.{digits}f}", others[0]["model"]
        text += f", ahead of {second} by {lead}" if float(lead) else f", {second} equal"
        text += _chance_in_words(best, others[0], metric, [row for row in leads if row["protocol"] == protocol])
    return f"{text}."


def _chance_in_words(best: Row, other: Row, metric: str, leads: list[Row]) -> str:
    """Returns the paired interval of the lead, positive in favour of the leader; empty if they were not compared."""
    figures = {row["model"]: row[metric] for row in (best, other)}
    for row in leads:
        compared = {row["model_a"]: row["value_a"], row["model_b"]: row["value_b"]}
        if row["metric"] != metric or {row["feature_set"]} != {best["feature_set"], other["feature_set"]}:
            continue
        if compared.keys() != figures.keys() or any(abs(compared[m] - figures[m]) > 1e-9 for m in figures):
            continue
        ends = (row["ci_low"], row["ci_high"])
        is_turned = (row["model_a"] == best["model"]) == (not METRICS[metric].higher_is_better)
        low, high = sorted(-end for end in ends) if is_turned else ends
        chance = "" if row["better"] else ", not beyond chance"
        if not row["better"] and (low > 0 or high < 0):
            chance += " once corrected for the number of models"
        return (
            f" (paired 95 % interval {low:+.{METRICS[metric].digits}f} to {high:+.{METRICS[metric].digits}f}{chance})"
        )
    return ""


def headlines(results: Results) -> list[str]:
    """Returns the best model of each task and protocol, for the top of the page."""
    leads = results.rows("leads")
    return [
        f"{task.capitalize()}, {best_in_words(protocol, board, LEADERBOARDS[task][0], leads)}"
        for task in LEADERBOARDS
        for protocol, board in results.of_task(task).items()
    ]


def by_feature_set(results: Results, task: str, metric: str) -> Figure:
    """Returns the figure of a metric of each model on each feature set."""
    boards = results.of_task(task)
    found = {row["feature_set"] for board in boards.values() for row in board}
    # The project's own first, then those of plug-ins, which need not be loaded.
    sets = [*(name for name in FEATURE_SETS if name in found), *sorted(found - {*FEATURE_SETS})]
    scale = Scale.over(row[metric] for board in boards.values() for row in board)
    digits = METRICS[metric].digits
    tables, best = [], []
    for protocol, board in boards.items():
        figures = {(row["model"], row["feature_set"]): row[metric] for row in board}
        rows = []
        for model in dict.fromkeys(row["model"] for row in board):
            values = [figures.get((model, name)) for name in sets]
            marks = [Mark(value, series=at) for at, value in enumerate(values) if value is not None]
            rows.append([model, sparklines.dots(scale, marks), *(number(value, digits) for value in values)])
        worst = (min if METRICS[metric].higher_is_better else max)(board, key=lambda row: row[metric])
        top = (max if METRICS[metric].higher_is_better else min)(board, key=lambda row: row[metric])
        best.append(
            f"{protocol}: from {worst[metric]:.{digits}f} ({worst['model']} on {worst['feature_set']}) to "
            f"{top[metric]:.{digits}f} ({top['model']} on {top['feature_set']})."
        )
        tables.append(
            HtmlTable(
                caption=f"{METRICS[metric].label}, protocol {protocol}",
                columns=[
                    Column("model"),
                    Column(METRICS[metric].label, "plot"),
                    *(Column(name, "number") for name in sets),
                ],
                rows=rows,
                axis=sparklines.axis(scale, sparklines.plain),
                shown=20,
            )
        )
    return Figure(
        name=f"{metric.removesuffix('_macro')}-by-features",
        title=f"{METRICS[metric].label} by feature set and model",
        finding="\n".join(best) or NOTHING,
        tables=tables,
        legend=[(sparklines.key(at), name) for at, name in enumerate(sets)] if tables else (),
    )


def parity(results: Results) -> Figure:
    """Returns the figure that compares our figures with the study's."""
    title = "Parity with the published study"
    run = results.run
    rows = results.rows("parity") if run["is_study_file"] and run["budget"] == "full" else []
    if not rows:
        reason = "It needs the study's own file, budget full, protocol published and seed 42."
        return Figure(name="parity", title=title, finding=f"Does not apply to this run. {reason}")
    within = sum(row["is_within"] for row in rows)
    far = rows[0]
    scale = Scale(-1.25, 1.25)
    table = HtmlTable(
        caption="Ours and the study's, those furthest apart first",
        columns=[
            Column("model"), Column("features"), Column("split"), Column("metric"),
            Column("difference in tolerances", "plot"), Column("ours", "number"), Column("study", "number"),
            Column("difference", "number"), Column("tolerance", "number"), Column("within"),
        ],
        rows=[
            [
                row["model"], row["feature_set"], row["split"], row["metric"],
                sparklines.dots(
                    scale, [Mark(row["difference"] / row["tolerance"], series=int(not row["is_within"]))], line=0
                ),
                f"{row['ours']:.4f}", f"{row['published']:.4f}", f"{row['difference']:+.4f}", f"{row['tolerance']:g}",
                "yes" if row["is_within"] else "no",
            ]
            for row in rows
        ],
        axis=sparklines.axis(scale, sparklines.signed),
        shown=10,
    )  # fmt: skip
    return Figure(
        name="parity",
        title=title,
        finding=f"{within} of {len(rows)} published figures are reproduced within tolerance. Furthest: "
        f"{far['model']} on {far['feature_set']}, {far['split']} {far['metric']} {far['ours']:.4f}, "
        f"the study {far['published']:.4f}.",
        tables=[table],
    )


def ledger(results: Results) -> Figure:
    """Returns the figure on how much each leak inflates the results."""
    title = "What the leaks are worth"
    rows = run_queries.leaks(results.connection, results.run)
    if not rows:
        reason = "It needs budget full, and protocols published and label_free or the probes, for the same tracks."
        return Figure(name="leaks", title=title, finding=f"No leak was measured. {reason}")
    tables = []
    for metric in (headline.name for headline in HEADLINES.values()):
        of_metric = sorted((r for r in rows if r["metric"] == metric), key=lambda row: -abs(row["inflation"]))
        ends = (row[end] for row in of_metric for end in ("inflation", "inflation_low", "inflation_high"))
        scale, digits = Scale.over([*ends, 0.0]), METRICS[metric].digits
        has_slices = any(row["published_imputed"] is not None for row in of_metric)
        slices = ("published_imputed", "published_observed", "cold_start_all") if has_slices else ()
        names = ("filled rows", "other rows", "cold start") if has_slices else ()
        tables.append(
            HtmlTable(
                caption=f"Inflation of {METRICS[metric].label} by each leak",
                columns=[
                    Column("leak"), Column("model"), Column("features"), Column("inflation, 95 % interval", "plot"),
                    *(Column(name, "number") for name in ("inflation", "interval", "with it", "without", *names)),
                ],
                rows=[
                    [
                        row["leak"], row["model"], row["feature_set"],
                        sparklines.dots(
                            scale, [Mark(row["inflation"], row["inflation_low"], row["inflation_high"])], line=0
                        ),
                        f"{row['inflation']:+.{digits}f}",
                        interval_text(row["inflation_low"], row["inflation_high"], digits),
                        *(number(row[name], digits) for name in ("with_leak", "without_leak", *slices)),
                    ]
                    for row in of_metric
                ],
                axis=sparklines.axis(scale, sparklines.signed),
                shown=14,
            )
        )  # fmt: skip
    return Figure(
        name="leaks",
        title=title,
        finding="\n".join(_leaks_in_words(rows)),
        tables=[table for table in tables if table.rows],
        note="Newest results of these tracks (results.leak_ledger); for RMSE a negative inflation flatters. "
        "imputation: published against label_free; filled rows are those of which a value was missing.",
    )


def _leaks_in_words(rows: list[Row]) -> list[str]:
    """Returns a sentence per leak with its largest inflation of each metric."""
    found = []
    for leak in dict.fromkeys(row["leak"] for row in rows):
        parts = []
        for metric in (headline.name for headline in HEADLINES.values()):
            if of_leak := [row for row in rows if (row["leak"], row["metric"]) == (leak, metric)]:
                row, digits = max(of_leak, key=lambda row: abs(row["inflation"])), METRICS[metric].digits
                text = f"{row['inflation']:+.{digits}f} of {row['model']}'s {METRICS[metric].label}"
                text += f", {row['with_leak']:.{digits}f}"
                if row["inflation_low"] is not None:
                    text += (
                        f" (95 % interval {row['inflation_low']:+.{digits}f} to {row['inflation_high']:+.{digits}f})"
                    )
                parts.append(text)
        found.append(f"{leak}: largest {'; '.join(parts)}.")
    return found

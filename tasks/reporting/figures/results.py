"""The report's figures on the models' results; each reads rows by SQL, states its finding and draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from tasks.prediction.candidates import honest_protocols, is_honest
from tasks.reporting import sparklines
from tasks.reporting.page import Column, Figure, HtmlTable, numbers, secondary, texts
from tasks.reporting.sparklines import Mark, Scale
from tasks.results import run_queries
from tasks.results.run_queries import LEADERBOARDS, Row, Rows, in_folds, interval_text, number, signed
from tasks.specs import FEATURE_SETS, HEADLINES, METRICS
from tasks.storage import duck

NOTHING = "No cell of this kind succeeded in this run."
# What the cause of each leak does, as the subject of a sentence.
LEAKS = {
    "imputation": "Filling by genre",
    "artists": "Training on other tracks of the test tracks' artists",
    "recordings": "Training on copies of test tracks",
    "target": "Knowing the other target",
}


@dataclass(frozen=True, slots=True)
class Results:
    """The leaderboards of a run, by (protocol, task) in the order of protocols; rows are best first."""

    connection: duckdb.DuckDBPyConnection
    run: Row
    boards: dict[tuple[str, str], Rows]

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, run: Row) -> Results:
        """Reads the leaderboards of a run."""
        found = {
            (protocol, task): run_queries.leaderboard(connection, run["run_id"], protocol, task)
            for protocol in run_queries.protocols(connection, run["run_id"])
            for task in LEADERBOARDS
        }
        return cls(connection, run, {key: board for key, board in found.items() if board})

    def of_task(self, task: str) -> dict[str, Rows]:
        """Returns the leaderboards of a task, by protocol."""
        return {protocol: board for (protocol, of), board in self.boards.items() if of == task}

    def main_protocol(self, task: str) -> str | None:
        """Returns the most honest protocol with results, or if there is none the first; None without results."""
        protocols = self.of_task(task)
        return next((name for name in (*honest_protocols(), *protocols) if name in protocols), None)

    def rows(self, name: str, **values: object) -> Rows:
        """Returns the rows of sql/report/<name>.sql for this run."""
        query = duck.render(f"report/{name}")
        return run_queries.rows(self.connection, query, run_id=self.run["run_id"], **values)

    def of_best(self, name: str, protocol: str, task: str) -> tuple[Row, Rows]:
        """Returns the best model of a protocol, and its rows of sql/report/<name>.sql for its lowest seed."""
        best = self.boards[protocol, task][0]
        cell = {"protocol": protocol, "model": best["model"], "feature_set": best["feature_set"]}
        return best, self.rows(name, **cell, seed=best["seed"])


def leaderboard(results: Results, task: str) -> Figure:
    """Returns the figure of all models and feature sets with the headline metric and its interval."""
    metrics = LEADERBOARDS[task]
    boards = results.of_task(task)
    scale = Scale.over(value for board in boards.values() for row in board for value in (row["low"], row["high"]))
    headline = METRICS[metrics[0]].label
    digits = METRICS[metrics[0]].digits
    tables = []
    for protocol, board in boards.items():
        has_seeds = any(row["seeds"] > 1 for row in board)
        has_sets = len({row["feature_set"] for row in board}) > 1
        others = [name.removesuffix("_macro") for name in metrics[1:]] + (["± seeds"] if has_seeds else [])
        tables.append(
            HtmlTable(
                caption=f"{task.capitalize()}, protocol {protocol}",
                columns=[
                    Column("model"), Column("features", is_secondary=not has_sets), *numbers(headline),
                    Column("95 % interval", "plot"), *secondary(numbers("interval", *others)),
                ],
                rows=[
                    [
                        f"{row['model']} (sample)" if row["sampled_from"] else row["model"],
                        row["feature_set"],
                        number(row[metrics[0]], digits),
                        sparklines.dots(
                            scale, [Mark(row[metrics[0]], row["low"], row["high"])], line=board[0][metrics[0]]
                        ),
                        interval_text(row["low"], row["high"], digits),
                        *(number(row[name], METRICS[name].digits) for name in metrics[1:]),
                        *([number(row["sd"], digits)] if has_seeds else []),
                    ]
                    for row in board
                ],
                sql=board.sql,
                anchors=_anchors(task, board) if protocol == results.main_protocol(task) else (),
                axis=sparklines.axis(scale, sparklines.plain),
                shown=10,
            )
        )  # fmt: skip
    leads = results.rows("leads")
    findings = [best_in_words(protocol, board, metrics[0], leads) for protocol, board in boards.items()]
    return Figure(
        name=f"leaderboard-{task}",
        title=f"{task.capitalize()}: {headline} on test rows",
        finding="\n".join(findings) or NOTHING,
        tables=tables,
        note=" ".join(["The vertical line is the best model's figure.", *_samples(boards)]) if tables else "",
    )


def cross_validation(results: Results, task: str) -> Figure | None:
    """Returns the figure of the models over all rows of a cross-validation; None if the run has none."""
    metrics = LEADERBOARDS[task]
    headline, digits = METRICS[metrics[0]].label, METRICS[metrics[0]].digits
    name, title = f"folds-{task}", f"{task.capitalize()}: {headline} in a cross-validation, each track tested once"
    run_id = results.run["run_id"]
    found = {
        protocol: run_queries.cross_validated(results.connection, run_id, protocol, task)
        for protocol in results.of_task(task)
    }
    boards = {protocol: board for protocol, board in found.items() if board}
    if not boards:
        return None
    scale = Scale.over(value for board in boards.values() for row in board for value in (row["low"], row["high"]))
    others = [name.removesuffix("_macro") for name in metrics[1:]]
    tables = [
        HtmlTable(
            caption=f"{task.capitalize()}, protocol {protocol}: {board[0]['n']:,} tracks in {in_folds(board[0])}, "
            f"{board[0]['n_train']:,} to train each model",
            columns=[
                *texts("model", "features"), *numbers(headline), Column("95 % interval", "plot"),
                *secondary(numbers("interval", "± folds", *others)),
            ],
            rows=[
                [
                    row["model"], row["feature_set"], number(row[metrics[0]], digits),
                    sparklines.dots(scale, [Mark(row[metrics[0]], row["low"], row["high"])], line=board[0][metrics[0]]),
                    interval_text(row["low"], row["high"], digits), number(row["sd"], digits),
                    *(number(row[name], METRICS[name].digits) for name in metrics[1:]),
                ]
                for row in board
            ],
            sql=board.sql,
            axis=sparklines.axis(scale, sparklines.plain),
            shown=10,
        )
        for protocol, board in boards.items()
    ]  # fmt: skip
    leads = results.rows("fold_leads")
    return Figure(
        name=name,
        title=title,
        finding="\n".join(best_in_words(protocol, board, metrics[0], leads) for protocol, board in boards.items()),
        tables=tables,
        note="Each track is predicted by a model that was trained without its fold. The interval also covers other "
        "training rows; ± folds is the standard deviation over folds.",
    )


def model_links(results: Results) -> list[tuple[str, list[tuple[str, str]]]]:
    """Returns for each task links to its models, to their best rows on the leaderboard of its most honest protocol."""
    return [
        (
            f"{task.capitalize()}, {protocol}",
            [(row["model"], anchor) for row, anchor in zip(board, _anchors(task, board), strict=True) if anchor],
        )
        for task in LEADERBOARDS
        for protocol, board in results.of_task(task).items()
        if protocol == results.main_protocol(task)
    ]


def _anchors(task: str, board: list[Row]) -> list[str]:
    """Returns an id for each row of a leaderboard: that of its model for a model's best row, none for the others."""
    seen: set[str] = set()
    found = []
    for row in board:
        found.append("" if row["model"] in seen else f"{task}-{row['model']}")
        seen.add(row["model"])
    return found


def _samples(boards: Mapping[str, list[Row]]) -> list[str]:
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
    text = (
        f"Under {protocol} the best model is {best['model']} on {best['feature_set']}: {figure_in_words(best, metric)}."
    )
    others = [row for row in board if row["model"] != best["model"]]
    if others:
        lead, second = f"{abs(best[metric] - others[0][metric]):.{digits}f}", others[0]["model"]
        of_protocol = [row for row in leads if row["protocol"] == protocol]
        interval, chance = _chance_in_words(best, others[0], metric, of_protocol)
        text += (
            f" It leads {second} by {lead}{interval}{chance}."
            if float(lead)
            else f" {second} has the same figure, to {digits} decimals{interval}."
        )
    return text


def figure_in_words(row: Row, metric: str) -> str:
    """Returns a model's headline figure with its interval. Args: row: of a leaderboard."""
    digits = METRICS[metric].digits
    text = f"{METRICS[metric].label} {number(row[metric], digits)}"
    if row["low"] is not None:
        text += f", 95\u00a0% interval {row['low']:.{digits}f} to {row['high']:.{digits}f}"
    return text


def _chance_in_words(best: Row, other: Row, metric: str, leads: list[Row]) -> tuple[str, str]:
    """Returns the paired interval of the lead, positive in favour of the leader, and whether it may be chance.

    Both are empty if the two were not compared.
    """
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
        chance = "" if row["better"] else ", which may be chance"
        if not row["better"] and (low > 0 or high < 0):
            chance += " once corrected for the number of models"
        digits = METRICS[metric].digits
        return f" (95\u00a0% interval of the lead {signed(low, digits)} to {signed(high, digits)})", chance
    return "", ""


def best_honest(results: Results) -> str:
    """Returns a sentence on the best model of each task under its most honest protocol."""
    parts = []
    for task, (metric, *_) in LEADERBOARDS.items():
        protocol = results.main_protocol(task)
        if protocol and is_honest(protocol):
            best = results.boards[protocol, task][0]
            parts.append(f"{best['model']} for {task} ({figure_in_words(best, metric)}, under {protocol})")
    if not results.boards:
        return "No cell of this run has results."
    if not parts:
        return "No model of this run is honest: none was trained under " + " or ".join(honest_protocols()) + "."
    return f"The best honest {'models are' if len(parts) > 1 else 'model is'} {' and '.join(parts)}."


def leak_in_words(rows: list[Row]) -> str:
    """Returns a sentence on the study's leak, by the model that is best with it.

    Args: rows: of sql/report/leaks.sql.
    """
    for headline in HEADLINES.values():
        if found := [row for row in rows if (row["leak"], row["metric"]) == ("imputation", headline.name)]:
            return _inflated(found)
    return "The leak was not measured: that takes the same model under published and label_free."


def by_feature_set(results: Results, task: str, metric: str) -> Figure:
    """Returns the figure of a metric of each model on each feature set."""
    boards = results.of_task(task)
    found = {row["feature_set"] for board in boards.values() for row in board}
    # The project's own first, then those of plug-ins, which need not be loaded.
    sets = [*(name for name in FEATURE_SETS if name in found), *sorted(found - {*FEATURE_SETS})]
    scale = Scale.over(row[metric] for board in boards.values() for row in board)
    digits = METRICS[metric].digits
    name = f"{metric.removesuffix('_macro')}-by-features"
    title = f"{METRICS[metric].label} by feature set and model"
    title = title[0].upper() + title[1:]
    if len(sets) == 1:
        return Figure(name=name, title=title, finding=f"All models of this run have feature set {sets[0]}.")
    tables, best = [], []
    for protocol, board in boards.items():
        figures = {(row["model"], row["feature_set"]): row[metric] for row in board}
        rows = []
        for model in dict.fromkeys(row["model"] for row in board):
            values = [figures.get((model, name)) for name in sets]
            marks = [Mark(value, series=at) for at, value in enumerate(values) if value is not None]
            rows.append([model, *(number(value, digits) for value in values), sparklines.dots(scale, marks)])
        worst = (min if METRICS[metric].higher_is_better else max)(board, key=lambda row: row[metric])
        top = (max if METRICS[metric].higher_is_better else min)(board, key=lambda row: row[metric])
        best.append(
            f"Under {protocol} it goes from {worst[metric]:.{digits}f} ({worst['model']} on {worst['feature_set']}) to "
            f"{top[metric]:.{digits}f} ({top['model']} on {top['feature_set']})."
        )
        tables.append(
            HtmlTable(
                caption=f"{METRICS[metric].label}, protocol {protocol}",
                columns=[
                    Column("model"),
                    *numbers(*sets),
                    Column(METRICS[metric].label, "plot", is_secondary=True),
                ],
                rows=rows,
                sql=board.sql,
                axis=sparklines.axis(scale, sparklines.plain),
                shown=20,
            )
        )
    return Figure(
        name=name,
        title=title,
        finding="\n".join(best) or NOTHING,
        tables=tables,
        legend=[(sparklines.key(at), name) for at, name in enumerate(sets)] if tables else (),
    )


def parity(results: Results) -> Figure:
    """Returns the figure that compares our figures with the study's."""
    title = "Parity with the published study"
    run = results.run
    rows = results.rows("parity") if run["is_study_file"] and run["budget"] == "full" else None
    if not rows:
        reason = "It needs the study's own file, budget full, protocol published and seed 42."
        return Figure(name="parity", title=title, finding=f"Does not apply to this run. {reason}")
    within = sum(row["is_within"] for row in rows)
    far = rows[0]
    scale = Scale(-1.25, 1.25)
    table = HtmlTable(
        caption="Ours and the study's, those furthest apart first",
        columns=[
            Column("figure", "wrap"), *numbers("difference"), Column("difference in tolerances", "plot"),
            *secondary([*numbers("ours", "study", "tolerance"), *texts("within")]),
        ],
        rows=[
            [
                f"{row['model']} on {row['feature_set']}, {row['split']} {row['metric']}", signed(row["difference"], 4),
                sparklines.dots(
                    scale, [Mark(row["difference"] / row["tolerance"], series=int(not row["is_within"]))], line=0
                ),
                f"{row['ours']:.4f}", f"{row['published']:.4f}", f"{row['tolerance']:g}",
                "yes" if row["is_within"] else "no",
            ]
            for row in rows
        ],
        sql=rows.sql,
        axis=sparklines.axis(scale, sparklines.signed),
        shown=10,
    )  # fmt: skip
    return Figure(
        name="parity",
        title=title,
        finding=f"{within} of {len(rows)} published figures are reproduced within tolerance. Furthest off is the "
        f"{far['split']} {far['metric']} of {far['model']} on {far['feature_set']}: {far['ours']:.4f}, in the study "
        f"{far['published']:.4f}.",
        tables=[table],
    )


def ledger(results: Results, rows: Rows) -> Figure:
    """Returns the figure on how much each leak inflates the results. Args: rows: of sql/report/leaks.sql."""
    title = "What the leaks are worth"
    if not rows:
        reason = "It takes protocols published and label_free, or the probes, for the same tracks and budget."
        return Figure(name="leaks", title=title, finding=f"No leak was measured. {reason}")
    tables, findings = [], []
    for metric in (headline.name for headline in HEADLINES.values()):
        for leak in dict.fromkeys(row["leak"] for row in rows if row["metric"] == metric):
            of_leak = [row for row in rows if (row["leak"], row["metric"]) == (leak, metric)]
            findings.append(_inflated(of_leak))
            tables.append(_added(of_leak, rows.sql))
    return Figure(
        name="leaks",
        title=title,
        finding="\n".join(findings),
        tables=tables,
        note="Newest results of these tracks with this budget (results.inflation), the largest first; each table has a "
        "scale of its own. A lower RMSE is better: a leak that takes some off flatters. imputation: published against "
        "label_free; filled rows are those of which a value was missing.",
    )


def _added(rows: list[Row], sql: str) -> HtmlTable:
    """Returns the table of what a leak adds to each model. Args: rows: of one leak and metric, the largest first."""
    leak, metric = rows[0]["leak"], METRICS[rows[0]["metric"]]
    ends = (row[end] for row in rows for end in ("inflation", "inflation_low", "inflation_high"))
    scale, digits = Scale.over([*ends, 0.0]), metric.digits
    has_slices = any(row["published_imputed"] is not None for row in rows)
    slices = ("published_imputed", "published_observed", "cold_start_all") if has_slices else ()
    names = ("filled rows", "other rows", "cold start") if has_slices else ()
    return HtmlTable(
        caption=f"What the leak {leak} adds to {metric.label}",
        columns=[
            *texts("model", "features"), *numbers("added"), Column("added, 95 % interval", "plot"),
            *secondary(numbers("interval", "with it", "without", *names)),
        ],
        rows=[
            [
                row["model"], row["feature_set"], signed(row["inflation"], digits),
                sparklines.dots(scale, [Mark(row["inflation"], row["inflation_low"], row["inflation_high"])], line=0),
                interval_text(row["inflation_low"], row["inflation_high"], digits),
                *(number(row[name], digits) for name in ("with_leak", "without_leak", *slices)),
            ]
            for row in rows
        ],
        sql=sql,
        axis=sparklines.axis(scale, sparklines.signed),
        shown=6,
    )  # fmt: skip


def _inflated(rows: list[Row]) -> str:
    """Returns a sentence on what a leak adds to the figure that is best with it. Args: rows: of one leak and metric."""
    metric = METRICS[rows[0]["metric"]]
    row = (max if metric.higher_is_better else min)(rows, key=lambda row: row["with_leak"])
    digits, size = metric.digits, row["inflation"]
    low, high = row["inflation_low"], row["inflation_high"]
    leak, interval, chance = LEAKS.get(row["leak"], row["leak"]), "", ""
    if low is not None:
        interval = f" (95\u00a0% interval of the difference {signed(low, digits)} to {signed(high, digits)})"
        chance = ", which may be chance" if low <= 0 <= high else ""
    if not round(size, digits):
        return (
            f"{leak} makes no difference to {row['model']}'s {metric.label} of {row['with_leak']:.{digits}f}{interval}."
        )
    return (
        f"{leak} {'adds' if size >= 0 else 'takes'} {abs(size):.{digits}f} {'to' if size >= 0 else 'off'} "
        f"{row['model']}'s {row['with_leak']:.{digits}f}: without it the {metric.label} is "
        f"{row['without_leak']:.{digits}f}{interval}{chance}."
    )

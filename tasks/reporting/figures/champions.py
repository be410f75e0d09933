"""The report's figures on the champions: their history, and the calibration of their predictions."""

from __future__ import annotations

from tasks.reporting import sparklines
from tasks.reporting.figures.results import Results
from tasks.reporting.page import Column, Figure, HtmlTable, numbers, percent, shortened, texts
from tasks.reporting.sparklines import Mark, Scale
from tasks.results.run_queries import Row, interval_text, number


def champions(results: Results) -> list[Figure]:
    """Returns the figures on which model predicts each task and why, and on its calibration on test rows."""
    found = results.rows("champions")
    return [_chosen(found), _intervals(found), _probabilities(found)]


def _chosen(found: list[Row]) -> Figure:
    sentences = [
        f"{row['task'].capitalize()}: {row['model']} on {row['feature_set']} ({row['protocol']}), champion since "
        f"{'this run' if row['is_of_run'] else 'run ' + row['run_id']}: {shortened(row['reason'])}."
        for row in found
        if row["stands"]
    ]
    table = HtmlTable(
        caption="Champions, newest first",
        columns=[*texts("task", "model"), Column("because", "wrap"), *texts("in place of", "features", "protocol"),
                 Column("since run")],
        rows=[
            [
                row["task"], row["model"], shortened(row["reason"]), (row["replaced"] or "none").split(" (")[0],
                row["feature_set"], row["protocol"], "this run" if row["is_of_run"] else row["run_id"],
            ]
            for row in found
        ],
    )  # fmt: skip
    return Figure(
        name="champions",
        title="The champions, and why",
        finding="\n".join(sentences)
        or "None yet: a run of cold_start or label_free leaves a champion for each task it trains a model of.",
        tables=[table] if found else [],
        note="The first of each task is the one that stands. Chosen on validation rows. A later run's best takes over "
        "if it is better beyond the uncertainty, has a higher budget or protocol, or was judged on other rows, or if "
        "the champion can no longer predict. As published when this page was written."
        if found
        else "",
    )


def _intervals(found: list[Row]) -> Figure:
    rows = [row for row in found if row["coverage"] is not None]
    title, name = "Do the intervals of popularity hold what they promise?", "coverage"
    if not rows:
        return Figure(name=name, title=title, finding="No champion predicts popularity yet.")
    wanted = rows[0]["coverage_wanted"]
    scale = Scale.over([end for row in rows for end in (row["coverage_low"], row["coverage_high"])] + [wanted])
    now = next(row for row in rows if row["stands"])
    is_within = now["coverage_low"] <= now["coverage_wanted"] <= now["coverage_high"]
    table = HtmlTable(
        caption="Share of test rows within their interval",
        columns=[Column("model"), Column("share within, %, and its 95 % interval", "plot"),
                 *numbers("share", "interval", "wanted", "± points", "test rows", "since")],
        rows=[
            [
                row["model"],
                sparklines.dots(scale, [Mark(row["coverage"], row["coverage_low"], row["coverage_high"])], line=wanted),
                percent(row["coverage"], 1),
                interval_text(100 * row["coverage_low"], 100 * row["coverage_high"], 1),
                percent(row["coverage_wanted"]), number(row["half_width"], 1), f"{row['n_test']:,}", _since(row),
            ]
            for row in rows
        ],
        axis=sparklines.axis(scale, lambda share: f"{100 * share:.0f}"),
    )  # fmt: skip
    return Figure(
        name=name,
        title=title,
        finding=f"{now['model']}: {percent(now['coverage'], 1)} of the test tracks are within their interval of plus "
        f"or minus {now['half_width']:.1f} points, {percent(now['coverage_wanted'])} were promised: "
        f"{'no further off than chance explains' if is_within else 'further off than chance explains'}.",
        tables=[table],
        note="Vertical line: what was promised, from validation rows (split conformal prediction). The interval of the "
        "share is by group of linked tracks, which err alike. It covers over artists, not for each of them.",
    )


def _probabilities(found: list[Row]) -> Figure:
    rows = [row for row in found if row["ece"] is not None]
    title, name = "Are the champion's probabilities calibrated?", "champion-calibration"
    if not rows:
        return Figure(name=name, title=title, finding="No champion predicts genre yet.")
    scale = Scale.over([row[of] for row in rows for of in ("ece", "ece_uncalibrated")], zero=True)
    now = next(row for row in rows if row["stands"])
    table = HtmlTable(
        caption="Calibration of the probabilities, test rows",
        columns=[Column("model"), Column("calibration error", "plot"),
                 *numbers("error", "before", "log loss", "before", "test rows", "since")],
        rows=[
            [
                row["model"],
                sparklines.dots(scale, [Mark(row["ece_uncalibrated"], series=4), Mark(row["ece"])]),
                number(row["ece"]), number(row["ece_uncalibrated"]),
                number(row["log_loss"]), number(row["log_loss_uncalibrated"]), f"{row['n_test']:,}", _since(row),
            ]
            for row in rows
        ],
        axis=sparklines.axis(scale, sparklines.plain),
        legend=[(sparklines.key(0), "calibrated"), (sparklines.key(4), "as the model says it")],
    )  # fmt: skip
    return Figure(
        name=name,
        title=title,
        finding=f"{now['model']}: its stated probability is off by {now['ece']:.3f} on average, "
        f"{now['ece_uncalibrated']:.3f} before calibration; log loss {now['log_loss']:.3f}, "
        f"{now['log_loss_uncalibrated']:.3f} before.",
        tables=[table],
        note="One temperature, fitted on validation rows. Calibration error (ECE): how far stated probability and "
        "share right are apart, over 15 equally wide bins.",
    )


def _since(row: Row) -> str:
    return f"{row['chosen_at']:%Y-%m-%d}"

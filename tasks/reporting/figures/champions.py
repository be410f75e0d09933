"""The report's figures on the champions: their history, and the calibration of their predictions."""

from __future__ import annotations

from tasks.reporting import sparklines
from tasks.reporting.page import Column, Figure, HtmlTable, numbers, percent, secondary, shortened, texts
from tasks.reporting.sparklines import Mark, Scale
from tasks.results.run_queries import Row, Rows, interval_text, number


def champions(found: Rows, *, is_trial: bool) -> list[Figure]:
    """Returns the figures on which model predicts each task and why, and on its calibration on test rows.

    Args: as of champions_in_words.
    """
    standing = "the trial's" if is_trial else "current"
    return [_chosen(found, standing), _intervals(found, standing), _probabilities(found, standing)]


def champions_in_words(found: list[Row], *, is_trial: bool) -> str:
    """Returns a sentence on the champions.

    Args: found: rows of sql/report/champions.sql. is_trial: whether the run is a trial.
    """
    named = [f"{row['model']} for {row['task']} (since {_day(row)})" for row in found if row["stands"]]
    if not named:
        return "No champion predicts new tracks yet."
    several, which = ("s", "are") if len(named) > 1 else ("", "is")
    if is_trial:
        return f"The trial's champion{several} {which} {' and '.join(named)}; others predict new tracks."
    return f"New tracks are predicted by the champion{several} {' and '.join(named)}."


def _chosen(found: Rows, standing: str) -> Figure:
    sentences = [
        f"The champion for {row['task']} is {row['model']} on {row['feature_set']} ({row['protocol']}), since "
        f"{'this run' if row['is_of_run'] else 'run ' + row['run_id']}. Why: {shortened(row['reason'])}."
        for row in found
        if row["stands"]
    ]
    table = HtmlTable(
        caption="Champions, newest first",
        columns=[Column("champion", "wrap"), *texts("task"), Column("why", "wrap"),
                 *secondary(texts("in place of", "features", "protocol", "run"))],
        rows=[
            [
                _called(row, standing), row["task"], shortened(row["reason"]),
                (row["replaced"] or "none").split(" (")[0], row["feature_set"], row["protocol"],
                "this run" if row["is_of_run"] else row["run_id"],
            ]
            for row in found
        ],
        sql=found.sql,
    )  # fmt: skip
    return Figure(
        name="champions",
        title="The champions, and why",
        finding="\n".join(sentences)
        or "None yet: a run of cold_start or label_free leaves a champion for each task it trains a model of.",
        tables=[table] if found else [],
        note="The first of each task is the one that stands. Chosen by a cross-validation if the run had one "
        "of all candidates, else on validation rows. A later run's best takes over "
        "if it is better beyond the uncertainty, has a higher budget or protocol, or was judged on other rows, or if "
        "the champion can no longer predict. As published when this page was written."
        if found
        else "",
    )


def _intervals(found: Rows, standing: str) -> Figure:
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
        columns=[Column("champion", "wrap"), *numbers("share within"), Column("share, %, 95 % interval", "plot"),
                 *secondary(numbers("interval", "wanted", "± points", "test rows"))],
        rows=[
            [
                _called(row, standing),
                percent(row["coverage"], 1),
                sparklines.dots(scale, [Mark(row["coverage"], row["coverage_low"], row["coverage_high"])], line=wanted),
                interval_text(100 * row["coverage_low"], 100 * row["coverage_high"], 1),
                percent(row["coverage_wanted"]), number(row["half_width"], 1), f"{row['n_test']:,}",
            ]
            for row in rows
        ],
        sql=found.sql,
        axis=sparklines.axis(scale, lambda share: f"{100 * share:.0f}"),
    )  # fmt: skip
    return Figure(
        name=name,
        title=title,
        finding=f"The popularity of {percent(now['coverage'], 1)} of the test tracks is within the champion's interval "
        f"of plus or minus {now['half_width']:.1f} points. It promised {percent(now['coverage_wanted'])}. "
        f"{'Chance can explain the difference.' if is_within else 'Chance does not explain the difference.'}",
        tables=[table],
        note="Vertical line: what was promised, from validation rows (split conformal prediction). The interval of the "
        "share is by group of linked tracks, which err alike. It covers over artists, not for each of them.",
    )


def _probabilities(found: Rows, standing: str) -> Figure:
    rows = [row for row in found if row["ece"] is not None]
    title, name = "Are the champion's probabilities calibrated?", "champion-calibration"
    if not rows:
        return Figure(name=name, title=title, finding="No champion predicts genre yet.")
    scale = Scale.over([row[of] for row in rows for of in ("ece", "ece_uncalibrated")], zero=True)
    now = next(row for row in rows if row["stands"])
    table = HtmlTable(
        caption="Calibration of the probabilities, test rows",
        columns=[Column("champion", "wrap"), *numbers("error", "before"), Column("calibration error", "plot"),
                 *secondary(numbers("log loss", "before", "test rows"))],
        rows=[
            [
                _called(row, standing), number(row["ece"]), number(row["ece_uncalibrated"]),
                sparklines.dots(scale, [Mark(row["ece_uncalibrated"], series=4), Mark(row["ece"])]),
                number(row["log_loss"]), number(row["log_loss_uncalibrated"]), f"{row['n_test']:,}",
            ]
            for row in rows
        ],
        sql=found.sql,
        axis=sparklines.axis(scale, sparklines.plain),
        legend=[(sparklines.key(0), "calibrated"), (sparklines.key(4), "as the model says it")],
    )  # fmt: skip
    return Figure(
        name=name,
        title=title,
        finding=f"The probability that the champion states is off by {now['ece']:.3f} on average; before calibration "
        f"it was off by {now['ece_uncalibrated']:.3f}. Its log loss is {now['log_loss']:.3f}, before calibration "
        f"{now['log_loss_uncalibrated']:.3f}.",
        tables=[table],
        note="One temperature, fitted on validation rows. Calibration error (ECE): how far stated probability and "
        "share right are apart, over 15 equally wide bins.",
    )


def _called(row: Row, standing: str) -> str:
    """Returns a champion's name, which tells it from the same model as another run trained it.

    Args: standing: what the newest of its task is called.
    """
    return f"{row['model']} since {row['chosen_at']:%Y-%m-%d %H:%M}" + (f" ({standing})" if row["stands"] else "")


def _day(row: Row) -> str:
    return "this run" if row["is_of_run"] else f"{row['chosen_at']:%d %B %Y}"

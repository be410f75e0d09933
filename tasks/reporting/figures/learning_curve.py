"""The report of a learning curve: what more training rows gain and cost, for each model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial

import duckdb
from markupsafe import Markup

from tasks.reporting import plots, sparklines
from tasks.reporting.page import (
    Column,
    Figure,
    HtmlTable,
    Plot,
    Section,
    duration,
    numbers,
    secondary,
    shortened,
)
from tasks.reporting.plots import Curve
from tasks.reporting.sparklines import LogScale, Mark, Scale
from tasks.results.learning_curve import answer, curve_of, last_gains
from tasks.results.run_queries import LEADERBOARDS, Row, interval_text, number, signed
from tasks.specs import METRICS

COSTS: dict[str, tuple[str, Callable[..., Scale]]] = {
    "fit_seconds": ("Fit seconds", LogScale.over),
    "peak_rss_mb": ("MiB", partial(Scale.over, zero=True)),
}


def sections(connection: duckdb.DuckDBPyConnection, run: Row) -> tuple[list[Section], list[str]]:
    """Returns a section per task on the gain of each model's last doubling, and the findings of the page.

    Both are empty if the run is not a learning curve. Args: connection: to the published results.
    """
    points = curve_of(connection, run["run_id"])
    gains = last_gains(connection, run["run_id"])
    made, findings = [], []
    for task in LEADERBOARDS:
        by_model: dict[str, list[Row]] = defaultdict(list)
        for row in points:
            if row["task"] == task and row["status"] == "ok" and row["value"] is not None:
                by_model[row["model"]].append(row)
        steps = [step for step in gains if step["task"] == task]
        if not by_model:
            continue
        answers = [answer(step) for step in steps]
        findings += [f"{task.capitalize()}, {line}" for line in answers]
        made.append(
            Section(
                name=f"curve-{task}",
                title=f"{task.capitalize()}: what more data buys",
                figures=[_gained(task, by_model, steps, answers, points.sql), _cost(task, by_model, steps)],
            )
        )
    if failed := [row for row in points if row["status"] != "ok"]:
        findings.append(f"{len(failed)} points of the curves failed.")
        made.append(Section(name="failures", title="What failed", figures=[_failures(failed, points.sql)]))
    return made, findings


def _gained(task: str, by_model: dict[str, list[Row]], steps: list[Row], answers: list[str], sql: str) -> Figure:
    metric = LEADERBOARDS[task][0]
    digits = METRICS[metric].digits
    sizes = sorted({row["n_train"] for rows in by_model.values() for row in rows})
    names = [step["model"] for step in steps] or list(by_model)
    scale = Scale.over([end for step in steps for end in (step["gain_low"], step["gain_high"])], zero=True)
    table = HtmlTable(
        caption=f"{_title(metric)} on the test rows, by training rows",
        columns=[
            Column("model"),
            *secondary(numbers(*(f"{n:,}" for n in sizes))),
            *numbers("gain"),
            Column("last doubling, 95 % interval", "plot"),
            *secondary(numbers("95 % interval")),
        ],
        rows=[
            [
                step["model"],
                *(number(_at(by_model[step["model"]], n, "value"), digits) for n in sizes),
                signed(step["gain"], digits),
                sparklines.dots(scale, [Mark(step["gain"], step["gain_low"], step["gain_high"])], line=0),
                interval_text(step["gain_low"], step["gain_high"], digits),
            ]
            for step in steps
        ],
        sql=sql,
        axis=sparklines.axis(scale, sparklines.signed),
    )
    return Figure(
        name=f"curve-{task}",
        title=f"{_title(metric)} against training rows",
        finding="\n".join(answers),
        plots=[Plot("", _drawn(names, by_model, "value", _title(metric), Scale.over))],
        tables=[table] if steps else [],
        legend=_legend(names),
        size="large",
        note="Rows double from point to point; each has the rows of the one before, every genre in its share. The test "
        "rows are the same throughout, so that a gain's interval is that of a paired comparison: it does not cover "
        "which training rows were drawn. A gain is better whichever way the metric goes.",
    )


def _cost(task: str, by_model: dict[str, list[Row]], steps: list[Row]) -> Figure:
    names = [step["model"] for step in steps] or list(by_model)
    said = [
        f"{step['model']}: {duration(_at(by_model[step['model']], step['rows_after'], 'fit_seconds'))} and "
        f"{_at(by_model[step['model']], step['rows_after'], 'peak_rss_mb'):,.0f} MiB on {step['rows_after']:,} rows; "
        f"twice the rows took {step['slower']:.1f} times as long."
        for step in steps
    ]
    return Figure(
        name=f"curve-cost-{task}",
        title="What the rows cost",
        finding="\n".join(said),
        plots=[Plot(title, _drawn(names, by_model, name, title, over)) for name, (title, over) in COSTS.items()],
        legend=_legend(names),
        size="large",
        note="Seconds of the fit alone, and the most memory its process held, libraries included.",
    )


def _drawn(
    names: list[str], by_model: dict[str, list[Row]], column: str, label: str, over: Callable[..., Scale]
) -> Markup:
    x = LogScale.over(row["n_train"] for rows in by_model.values() for row in rows)
    y = over(max(row[column], 1e-3) for rows in by_model.values() for row in rows)
    lines = [
        Curve(points, at, sizes=[0.1] * len(points))
        for at, name in enumerate(names)
        for points in [[(row["n_train"], max(row[column], 1e-3)) for row in by_model[name]]]
    ]
    alt = "; ".join(
        f"{name}: {by_model[name][0][column]:.3g} at {by_model[name][0]['n_train']:,} rows, "
        f"{by_model[name][-1][column]:.3g} at {by_model[name][-1]['n_train']:,}"
        for name in names
    )
    return plots.curves(
        lines,
        x,
        y,
        f"{label} against training rows. {alt}.",
        x_label="training rows",
        y_label="",
        size=(320.0, 210.0),
    )


def _legend(names: list[str]) -> list[tuple[Markup, str]]:
    return [(sparklines.dash(at), name) for at, name in enumerate(names)]


def _at(rows: list[Row], n: int, column: str) -> float | None:
    return next((row[column] for row in rows if row["n_train"] == n), None)


def _title(metric: str) -> str:
    return METRICS[metric].label[0].upper() + METRICS[metric].label[1:]


def _failures(failed: list[Row], sql: str) -> Figure:
    table = HtmlTable(
        caption="Points that failed",
        columns=[Column("model"), Column("task"), Column("training rows", "number"), Column("error", "wrap")],
        rows=[
            [
                row["model"],
                row["task"],
                f"{row['train_rows']:,}" if row["train_rows"] else "all",
                shortened(row["error"]),
            ]
            for row in failed
        ],
        sql=sql,
    )
    return Figure(name="failed-points", title="Failures", finding=f"{len(failed)} failed.", tables=[table])

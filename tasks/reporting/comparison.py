"""A comparison of two runs: differences in settings, source and versions, in figures, and in failures."""

from __future__ import annotations

import json

import duckdb
import pyarrow as pa

from tasks.evaluation.comparisons import contrast
from tasks.reporting import sparklines
from tasks.reporting.page import (
    Column,
    Figure,
    HtmlTable,
    Page,
    Section,
    duration,
    numbers,
    secondary,
    shortened,
    texts,
)
from tasks.reporting.sparklines import Mark, Scale
from tasks.results import run_queries
from tasks.results.run_queries import Row, Rows, interval_text, number, signed
from tasks.specs import GENERATED, HEADLINES, METRICS
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training.cell_files import read_replicates

PAIRS = pa.schema(
    [
        pa.field("task", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("value_a", pa.float64()),
        pa.field("value_b", pa.float64()),
        pa.field("results_a", pa.list_(pa.string())),
        pa.field("results_b", pa.list_(pa.string())),
    ]
)


def comparison_page(connection: duckdb.DuckDBPyConnection, run: Row, other: Row, warehouse: Warehouse) -> Page:
    """Returns the page that compares two runs; differences are `run` minus `other`."""
    both = {"run_id": run["run_id"], "other": other["run_id"]}
    compared = run_queries.rows(connection, duck.render("report/compared"), **both)
    figures = paired(compared, warehouse)
    cells = run_queries.rows(connection, duck.render("report/changed_cells"), **both)
    settings = _settings(connection, run, other)
    failures = _failures(cells)
    drawn = [_figure(task, metric.name, figures, compared.sql) for task, metric in HEADLINES.items()]
    return Page(
        title=f"{run['run_id']} against {other['run_id']}",
        kind="Two benchmark runs",
        facts=[
            (name, f"{shortened(side['source'])}, budget {side['budget']}, {side['status']}, {_started(side)}")
            for name, side in (("this run", run), ("the other run", other))
        ],
        findings=[settings.finding, *(figure.finding for figure in drawn if figure.tables), failures.finding],
        sections=[
            Section(name="settings", title="What was different", figures=[settings, _parameters(cells)]),
            Section(name="figures", title="What it changed", figures=drawn),
            Section(name="cells", title="What failed", figures=[failures]),
        ],
        warnings=_warnings(run, other),
        generated=GENERATED if run["is_generated"] or other["is_generated"] else None,
    )  # fmt: skip


def paired(rows: list[Row], warehouse: Warehouse) -> list[Row]:
    """Adds the interval of `value_a - value_b` as ci_low and ci_high; None unless both have the same test rows."""
    alike = [row for row in rows if row["has_same_rows"]]
    used = sorted({result for row in alike for side in ("results_a", "results_b") for result in row[side]})
    here = {result for result in used if warehouse.here(warehouse.cell(result) / "replicates.parquet").exists()}
    alike = [row for row in alike if here >= {*row["results_a"], *row["results_b"]}]
    table = pa.Table.from_pylist([{name: row[name] for name in PAIRS.names} for row in alike], schema=PAIRS)
    found = contrast(table, read_replicates(sorted(here), warehouse)).to_pylist()
    intervals = {id(row): (pair["ci_low"], pair["ci_high"]) for row, pair in zip(alike, found, strict=True)}
    return [row | dict(zip(("ci_low", "ci_high"), intervals.get(id(row), (None, None)), strict=True)) for row in rows]


def _started(run: Row) -> str:
    return f"{run['started_at']:%Y-%m-%d %H:%M}"


def _warnings(run: Row, other: Row) -> list[str]:
    found = []
    if run["snapshot"] != other["snapshot"]:
        found.append("The two runs read different data: a difference may be the data's.")
    if run["budget"] != other["budget"]:
        found.append("The two runs had different budgets: their figures do not compare.")
    return found


def _settings(connection: duckdb.DuckDBPyConnection, run: Row, other: Row) -> Figure:
    facts = [_facts(connection, side) for side in (run, other)]
    runs = run_queries.rows(
        connection,
        "select * from results.runs where run_id in ($run_id, $other)",
        run_id=run["run_id"],
        other=other["run_id"],
    )
    names = list(dict.fromkeys([*facts[0], *facts[1]]))
    rows = [[name, *(side.get(name, "") for side in facts)] for name in names]
    changed = [name for name, a, b in rows if a != b and name not in {"status", "cells", "took", "started (UTC)"}]
    return Figure(
        name="settings",
        title="Settings, source and versions",
        finding=f"Different: {', '.join(changed)}." if changed else "Same settings, source and versions.",
        tables=[
            HtmlTable(
                caption="Both runs",
                columns=[*(Column(name, "wrap") for name in ("", "this run", "the other run")), Column("same")],
                rows=[[name, shortened(a), shortened(b), "yes" if a == b else "NO"] for name, a, b in rows],
                sql=runs.sql,
                shown=50,
            )
        ],
    )


def _facts(connection: duckdb.DuckDBPyConnection, run: Row) -> dict[str, str]:
    counts = run_queries.cell_counts(connection, run["run_id"])
    used = run_queries.rows(
        connection,
        """
        select string_agg(distinct protocol, ', ' order by protocol) as protocols,
            string_agg(distinct model, ', ' order by model) as models,
            string_agg(distinct feature_set, ', ' order by feature_set) as features,
            string_agg(distinct cast(seed as varchar), ', ') as seeds,
            cast(max(folds) as varchar) as folds,
            cast(max(fold_seed) as varchar) as "seed of folds"
        from (from results.cells union all by name from results.fold_cells) where run_id = $run_id
        """,
        run_id=run["run_id"],
    )[0]
    seconds = (run["finished_at"] - run["started_at"]).total_seconds() if run["finished_at"] else None
    return {
        "started (UTC)": _started(run),
        "status": run["status"],
        "cells": f"{counts['n']}, {counts['ok']} ok, {counts['reused']} reused, {counts['failed']} failed",
        "took": duration(seconds),
        "source": run["source"],
        "snapshot": run["snapshot"],
        "budget": run["budget"],
        **{name: value or "" for name, value in used.items()},
        "cores": f"{run['cpu_count']}",
        "code": run["git_commit"][:12] if run["git_commit"] else "not a git checkout",
        **json.loads(run["versions"]),
    }


def _parameters(cells: Rows) -> Figure:
    rows = {
        (row["model"], row["tasks"]): [
            row["model"],
            row["tasks"],
            shortened(row["params_a"]),
            shortened(row["params_b"]),
        ]
        for row in cells
        if row["params_a"] and row["params_b"] and row["params_a"] != row["params_b"]
    }  # fmt: skip
    columns = [Column("model"), Column("task"), Column("this run", "wrap"), Column("the other run", "wrap")]
    table = HtmlTable(
        caption="Settings of models that differ", columns=columns, rows=list(rows.values()), sql=cells.sql
    )
    finding = f"{len(rows)} models had other settings." if rows else "Models that both have had the same settings."
    return Figure(name="parameters", title="Settings of the models", finding=finding, tables=[table] if rows else [])


def _figure(task: str, metric: str, figures: list[Row], sql: str) -> Figure:
    rows = [row for row in figures if row["metric"] == metric]
    title, name = f"{task.capitalize()}: difference in {METRICS[metric].label}", f"difference-{task}"
    if not rows:
        return Figure(name=name, title=title, finding=f"No {task} figure that both runs have.")
    digits = METRICS[metric].digits
    ends = [row[end] for row in rows for end in ("ci_low", "ci_high")] + [
        row["value_a"] - row["value_b"] for row in rows
    ]
    scale = Scale.over([*ends, 0.0])
    table = HtmlTable(
        caption=f"{METRICS[metric].label}, this run minus the other",
        columns=[
            *texts("model", "protocol"), Column("features", is_secondary=True), *numbers("difference"),
            Column("difference", "plot"), *secondary([*numbers("interval", "this", "other"), *texts("how")]),
        ],
        rows=[
            [
                row["model"], row["protocol"], row["feature_set"], signed(row["value_a"] - row["value_b"], digits),
                sparklines.dots(scale, [Mark(row["value_a"] - row["value_b"], row["ci_low"], row["ci_high"])], line=0),
                interval_text(row["ci_low"], row["ci_high"], digits),
                number(row["value_a"], digits), number(row["value_b"], digits), _how(row),
            ]
            for row in rows
        ],
        sql=sql,
        axis=sparklines.axis(scale, sparklines.signed),
        shown=20,
    )  # fmt: skip
    return Figure(
        name=name,
        title=title,
        finding=f"{task.capitalize()}: of {len(rows)} figures, {judged_in_words(rows, metric)}.",
        tables=[table],
        note="paired: the 95 % bootstrap interval of the difference on the same test rows, not corrected for the "
        "number of figures. plain: the difference has no interval, because the test rows are others or because files "
        "of its cells are gone.",
    )


def judged_in_words(rows: list[Row], metric: str) -> str:
    """Returns how many figures are better, worse and the very same, and how many cannot be judged and why.

    Args: rows: of one metric, from `paired`.
    """
    how = [_how(row) for row in rows]
    sure = [row for row in rows if row["ci_low"] is not None and (row["ci_low"] > 0 or row["ci_high"] < 0)]
    better = [row for row in sure if (row["value_a"] > row["value_b"]) == METRICS[metric].higher_is_better]
    plain = [row for row, kind in zip(rows, how, strict=True) if kind == "plain"]
    others = sum(not row["has_same_rows"] for row in plain)
    said = []
    if len(plain) < len(rows):
        said.append(
            f"{how.count('same cell')} are of the very same cell; {len(better)} are better in this run and "
            f"{len(sure) - len(better)} worse by more than the drawing of test rows explains"
        )
    if others:
        said.append(f"{others} cannot be judged, because the test rows are others")
    if len(plain) > others:
        said.append(f"{len(plain) - others} cannot be judged, because files of their cells are gone")
    return "; ".join(said)


def _how(row: Row) -> str:
    if row["results_a"] == row["results_b"]:
        return "same cell"
    return "plain" if row["ci_low"] is None else "paired"


def _failures(cells: Rows) -> Figure:
    newly = [row for row in cells if row["status_a"] not in {"ok", None} and row["status_b"] == "ok"]
    still = [row for row in cells if row["status_a"] not in {"ok", None} and row["status_b"] != "ok"]
    mended = [row for row in cells if row["status_a"] == "ok" and row["status_b"] not in {"ok", None}]
    alone = [sum(row[side] is None for row in cells) for side in ("status_b", "status_a")]
    columns = [*texts("model", "protocol"), *secondary([*texts("features", "task"), *numbers("seed")]),
               *texts("this run", "the other run"), Column("error", "wrap")]  # fmt: skip
    tables = [
        HtmlTable(
            caption=caption,
            columns=columns,
            rows=[
                [row["model"], run_queries.protocol_of(row), row["feature_set"], row["tasks"], str(row["seed"]),
                 row["status_a"] or "not run", row["status_b"] or "not run", shortened(row["error_a"] or "")]
                for row in found
            ],
            sql=cells.sql,
        )
        for caption, found in (("Newly failing", newly), ("Failing in this run", still), ("No longer failing", mended))
        if found
    ]  # fmt: skip
    return Figure(
        name="failing",
        title="Cells that failed",
        finding=f"{len(newly)} cells fail that did not in the other run, {len(mended)} no longer fail; "
        f"{alone[0]} cells are in this run alone, {alone[1]} in the other alone.",
        tables=tables,
    )

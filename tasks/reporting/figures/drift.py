"""The report's figures on drift: of the source since the snapshot before, and of the predicted files."""

from __future__ import annotations

from contextlib import suppress

import duckdb

from tasks.reporting import sparklines
from tasks.reporting.figures.results import Results
from tasks.reporting.page import Column, Figure, HtmlTable, numbers, percent, secondary, shortened, texts
from tasks.reporting.sparklines import Mark, Scale
from tasks.results.run_queries import Row, Rows, number
from tasks.training.drift import LARGE, MODERATE

NOTE = (
    "PSI: population stability index, without what is expected of two samples of one distribution; below "
    f"{MODERATE} stable, from {LARGE} on large. By chance: what it exceeds once in a thousand times."
)


def drift(results: Results) -> list[Figure]:
    """Returns the figures on drift; none of a publication of an earlier version, which has no results.drift."""
    with suppress(duckdb.CatalogException):
        return [_of_source(results.rows("drift")), _of_predictions(results.rows("predictions_drift"))]
    return []


def _of_source(rows: Rows) -> Figure:
    drifted = [row for row in rows if row["is_drifted"]]
    if not rows:
        finding = "The snapshot was compared with none: it is the first of its catalogue."
    elif drifted:
        finding = (
            f"Since the snapshot before, {rows[0]['reference']}, {len(drifted)} of {len(rows)} statistics drifted: "
            f"{', '.join(dict.fromkeys(_named(row) for row in drifted))}."
        )
    else:
        finding = f"Since the snapshot before, {rows[0]['reference']}, nothing drifted."
    scale = Scale.over([*(row["psi_corrected"] or 0.0 for row in rows), 0.0, LARGE])
    table = HtmlTable(
        caption="Statistics of the snapshot, what drifted first",
        columns=[
            Column("column", "wrap"), *texts("statistic", "status"), *numbers("PSI"), Column("PSI, large", "plot"),
            *secondary(numbers("by chance", "before", "now")),
        ],
        rows=[
            [
                _named(row), row["statistic"], row["status"], number(row["psi_corrected"]),
                ""
                if row["psi_corrected"] is None
                else sparklines.dots(scale, [Mark(row["psi_corrected"], series=int(row["is_drifted"]))], line=LARGE),
                number(row["psi_by_chance"]), percent(row["reference_share"], 1), percent(row["share"], 1),
            ]
            for row in rows
        ],
        sql=rows.sql,
        shown=10,
    )  # fmt: skip
    return Figure(
        name="drift",
        title="Drift of the source",
        finding=finding,
        tables=[table] if rows else [],
        note=NOTE if rows else "",
    )


def _named(row: Row) -> str:
    return row["column_name"] if row["genre"] is None else shortened(row["genre"])


def _of_predictions(rows: Rows) -> Figure:
    drifted = [row for row in rows if row["n_drifted"]]
    table = HtmlTable(
        caption="Predicted files, newest first",
        columns=[
            Column("file", "wrap"), *texts("predicted (UTC)"), *numbers("rows"), Column("drifted", "wrap"),
            *secondary(numbers("largest PSI")),
        ],
        rows=[
            [
                shortened(row["source"]), f"{row['measured_at']:%Y-%m-%d %H:%M}", f"{row['n_rows']:,}",
                row["drifted"] or ("too few rows" if row["has_few_rows"] else "nothing"), number(row["psi"]),
            ]
            for row in rows
        ],
        sql=rows.sql,
        shown=10,
    )  # fmt: skip
    return Figure(
        name="predictions-drift",
        title="Drift of predicted files",
        finding=f"{len(drifted)} of {len(rows)} predicted files differ from the models' training rows."
        if rows
        else "No file was predicted yet.",
        tables=[table] if rows else [],
    )

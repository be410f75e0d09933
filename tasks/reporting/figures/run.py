"""The report's figures on the run and its data: time and memory, failures, quality and shape of the input."""

from __future__ import annotations

import heapq
from collections import defaultdict
from datetime import datetime

import duckdb

from tasks.reporting import plots, sparklines
from tasks.reporting.figures.results import Results
from tasks.reporting.page import (
    Column,
    Figure,
    HtmlTable,
    Plot,
    duration,
    numbers,
    percent,
    secondary,
    shortened,
    texts,
)
from tasks.reporting.sparklines import Scale
from tasks.results import run_queries
from tasks.results.run_queries import Row, Rows, signed
from tasks.storage import duck

TASK_SERIES = {"genre": 0, "popularity": 1, "genre and popularity": 2}
UNITS = ((3_600, "h"), (60, "min"), (1, "s"))  # of the time that a run takes: seconds of each


def time_and_memory(results: Results) -> Figure:
    """Returns the figure on when each cell trained, its time and memory, and how well the run used its cores."""
    rows = results.rows("cells")
    trained = [row for row in rows if row["started_at"] is not None and not row["reused"]]
    reused = [row for row in rows if row["reused"]]
    tables = [_cell_table("Cells trained in this run, longest first", trained, rows.sql)] if trained else []
    tables += [_cell_table("Reused from earlier runs, as trained there", reused, rows.sql)] if reused else []
    finding, drawn = _timing(trained, results.run)
    if reused:
        finding += f" {len(reused)} cells are reused from earlier runs."
    return Figure(
        name="time",
        title="Time and memory of each cell",
        finding=finding,
        plots=drawn,
        tables=tables,
        size="whole",
        legend=[(sparklines.key_bar(series), task) for task, series in TASK_SERIES.items()] if trained else (),
        note="Lanes are cells at the same time, not processes. took: training, prediction and scoring; "
        "fit and predict are parts of it. The wait for the first cell is not counted." if trained else "",
    )  # fmt: skip


def _timing(trained: list[Row], run: Row) -> tuple[str, list[Plot]]:
    if not trained:
        return "No cell was trained in this run.", []
    # The cores of a Dask cluster are not known, but the threads that trained at the same time are.
    cores = run["cells_at_once"] * run["threads_per_cell"] if run["runner"] == "dask" else run["cpu_count"]
    begin = min(row["started_at"] for row in trained)
    span = (max(row["finished_at"] for row in trained) - begin).total_seconds()
    total, longest = sum(row["seconds"] for row in trained), trained[0]
    bound = max(longest["seconds"], total / cores)
    finding = (
        f"{len(trained)} cells took {duration(span)}, one after another {duration(total)}. The longest, "
        f"{longest['model']} on {longest['feature_set']} under {longest['protocol']}, took "
        f"{duration(longest['seconds'])}. On {cores} cores no schedule could take less than {duration(bound)}; "
        f"this one took {span / max(bound, 1e-9):.2f} times that. {budget_in_words(run)}"
    )
    size, unit = next(one for one in UNITS if span >= 3 * one[0] or one[0] == 1)
    in_lanes = [
        [(_since(row["started_at"], begin) / size, _since(row["finished_at"], begin) / size, _title(row),
          TASK_SERIES[row["task"]])
         for row in lane]
        for lane in lanes(trained)
    ]  # fmt: skip
    svg = sparklines.lanes(Scale(0, max(span / size, 1e-3)), in_lanes, f"Gantt chart of the run. {finding}", unit)
    return finding, [Plot("", svg)]


def budget_in_words(run: Row) -> str:
    """Returns the thread budget in words. Args: run: a row of results.runs."""
    at_once, threads = run.get("cells_at_once"), run.get("threads_per_cell")  # older publications lack both columns
    if at_once is None:
        return "The thread budget was not recorded."
    cells, each = ("cell" if at_once == 1 else "cells"), ("thread" if threads == 1 else "threads")
    where = "on the workers of a Dask cluster" if run["runner"] == "dask" else f"on {run['cpu_count']} cores"
    return f"Thread budget: {at_once} {cells} at a time, {threads} {each} per cell, {where}."


def lanes(cells: list[Row]) -> list[list[Row]]:
    """Distributes cells over as few lanes as possible so that those in a lane do not overlap in time."""
    found: list[list[Row]] = []
    free: list[tuple[datetime, int]] = []
    for row in sorted(cells, key=lambda row: (row["started_at"], row["finished_at"])):
        if free and free[0][0] <= row["started_at"]:
            lane = heapq.heappop(free)[1]
        else:
            lane = len(found)
            found.append([])
        found[lane].append(row)
        heapq.heappush(free, (row["finished_at"], lane))
    return found


def _since(at: datetime, begin: datetime) -> float:
    return (at - begin).total_seconds()


def _title(row: Row) -> str:
    cell = f"{row['task']}: {row['model']} on {row['feature_set']}, {run_queries.protocol_of(row)}, seed {row['seed']}"
    return f"{cell}: {duration(row['seconds'])}"


def _cell_table(caption: str, rows: list[Row], sql: str) -> HtmlTable:
    most, memory = max(row["seconds"] for row in rows), max(row["peak_rss_mb"] for row in rows)
    scale, weight = Scale(0, most or 1.0), Scale(0, memory or 1.0)
    return HtmlTable(
        caption=caption,
        columns=[
            *texts("model", "protocol"), *secondary(texts("features", "task")), *numbers("took"),
            Column("time", "plot"), *secondary([*numbers("fit", "predict", "MiB"), Column("memory", "plot")]),
        ],
        rows=[
            [
                row["model"], run_queries.protocol_of(row), row["feature_set"], row["task"], duration(row["seconds"]),
                sparklines.span(scale, 0, row["seconds"], TASK_SERIES[row["task"]]),
                duration(row["fit_seconds"]), duration(row["predict_seconds"]), f"{row['peak_rss_mb']:,.0f}",
                sparklines.span(weight, 0, row["peak_rss_mb"], TASK_SERIES[row["task"]]),
            ]
            for row in rows
        ],
        sql=sql,
    )  # fmt: skip


def failures(connection: duckdb.DuckDBPyConnection, run: Row) -> Figure:
    """Returns the figure on the cells that did not succeed."""
    rows = run_queries.failures(connection, run["run_id"])
    total = run_queries.cell_counts(connection, run["run_id"])["n"]
    table = HtmlTable(
        caption="Cells that failed",
        columns=[*texts("model", "status"), *secondary([*texts("features", "protocol", "task"), *numbers("seed")]),
                 Column("error", "wrap")],
        rows=[
            [row["model"], row["status"], row["feature_set"], row["protocol"], row["tasks"], str(row["seed"]),
             shortened(row["error"])]
            for row in rows
        ],
        sql=rows.sql,
        shown=50,
    )  # fmt: skip
    none = "No cell failed." if total else "The run has no cells."
    finding = f"{len(rows)} of {total} cells did not succeed." if rows else none
    return Figure(name="failures", title="Failures", finding=finding, tables=[table] if rows else [])


def has_tracks(connection: duckdb.DuckDBPyConnection) -> bool:
    """Returns whether the run's tracks are still in the warehouse."""
    found = connection.execute(
        """
        select 1 from information_schema.tables
        where table_schema = 'staging' and table_name = 'stg_tracks' and table_catalog = current_catalog()
        """
    ).fetchall()
    return bool(found)


def quality(connection: duckdb.DuckDBPyConnection, run: Row) -> list[Figure]:
    """Returns the figures on what was read, left out and missing, and on the distributions of the tracks kept."""
    read = run_queries.rows(
        connection, "select * from raw.snapshots where snapshot = $snapshot", snapshot=run["snapshot"]
    )
    if not has_tracks(connection) or not read:
        title, reason = (
            "Data quality of the input",
            "The run recorded no cells, or its tracks are no longer in the warehouse.",
        )
        return [Figure(name="quality", title=title, finding=reason)]
    found = {
        name: run_queries.rows(connection, duck.render(f"quality/{name}"))
        for name in ("rejects", "missing", "genres", "duplicates")
    }
    connection.execute(f"create table sampled_tracks as {duck.render('report/tracks')}")
    return [_read_and_kept(read, found), _genres(found["genres"]), *_shape(connection)]


def _read_and_kept(snapshots: Rows, found: dict[str, Rows]) -> Figure:
    [read] = snapshots
    kept = sum(row["n"] for row in found["genres"] if not row["is_dropped"])
    rare = sum(row["n"] for row in found["genres"] if row["is_dropped"])
    [copies] = found["duplicates"]
    counts = [
        ("rows read", read["rows_read"]), ("blank", read["blank_rows"]),
        ("without a genre", read["rows_without_genre"]),
        ("rejected", read["rejected_rows"]), ("of genres too rare to split", rare), ("tracks kept", kept),
        ("of them listed more than once", copies["n_tracks"]),
    ]  # fmt: skip
    scale = Scale(0, max(read["rows_read"], 1))
    tables = [
        HtmlTable(
            caption="Rows",
            columns=[
                Column("", "wrap"), *numbers("rows"), Column("share of the rows read", "plot"),
                *secondary(numbers("share")),
            ],
            rows=[[name, f"{n:,}", sparklines.span(scale, 0, n), percent(n / scale.high, 2)] for name, n in counts],
            sql=snapshots.sql,
        )
    ]  # fmt: skip
    if found["missing"]:
        tables.append(
            HtmlTable(
                caption="Missing values of the tracks kept",
                columns=[*texts("column"), *numbers("tracks"), Column("share", "plot"), *numbers("share")],
                rows=[
                    [
                        row["column_name"],
                        f"{row['n']:,}",
                        sparklines.span(Scale(0, 1), 0, row["share"]),
                        percent(row["share"], 1),
                    ]
                    for row in found["missing"]
                ],
                sql=found["missing"].sql,
            )
        )
    if found["rejects"]:
        tables.append(
            HtmlTable(
                caption="Rejected values",
                columns=[Column("column"), Column("reason", "wrap"), *numbers("values"),
                         *secondary([*numbers("first line"), Column("there", "wrap")])],
                rows=[
                    [row["column_name"], shortened(row["reason"]), f"{row['n']:,}", f"{row['first_line']:,}",
                     shortened(row["first_error"])]
                    for row in found["rejects"]
                ],
                sql=found["rejects"].sql,
            )
        )  # fmt: skip
    if notes := read.get("notes"):  # older publications lack this column
        tables.append(
            HtmlTable(
                caption="What to know of the file",
                columns=[Column("", "wrap")],
                rows=[[note] for note in notes],
                sql=snapshots.sql,
            )
        )
    return Figure(
        name="quality",
        title="Data quality of the input",
        finding=f"{read['rows_read']:,} rows read, {kept:,} tracks kept, {read['rejected_rows']:,} rejected. "
        f"{copies['n_recordings']:,} recordings are listed more than once ({copies['n_tracks']:,} tracks), "
        f"{copies['n_several_genres']:,} of them under more than one genre, which no classifier can get right.",
        tables=tables,
    )


def _genres(rows: Rows) -> Figure:
    kept = [row for row in rows if not row["is_dropped"]]
    total, scale = sum(row["n"] for row in kept), Scale(0, max((row["n"] for row in rows), default=1))
    most, least = kept[0], kept[-1]
    balance = (
        f"all with {most['n']:,} tracks"
        if most["n"] == least["n"]
        else f"from {least['n']:,} tracks ({shortened(least['music_genre'])}) to {most['n']:,} "
        f"({shortened(most['music_genre'])})"
    )
    return Figure(
        name="genres",
        title="Balance of the genres",
        finding=f"{len(kept)} genres, {balance}. The most frequent is {percent(most['n'] / total, 1)} of them.",
        tables=[
            HtmlTable(
                caption="Tracks by genre",
                columns=[Column("genre", "wrap"), *numbers("tracks"), Column("", "plot"), *numbers("share")],
                rows=[
                    [shortened(row["music_genre"]), f"{row['n']:,}", sparklines.span(scale, 0, row["n"]),
                     "dropped" if row["is_dropped"] else percent(row["n"] / total, 1)]
                    for row in rows
                ],
                sql=rows.sql,
                shown=20,
            )
        ],
    )  # fmt: skip


def _shape(connection: duckdb.DuckDBPyConnection) -> list[Figure]:
    bins: dict[str, list[Row]] = defaultdict(list)
    for row in run_queries.rows(connection, duck.render("report/distributions")):
        bins[row["column_name"]].append(row)
    drawn = []
    for name, rows in bins.items():
        counts = [0] * 24
        for row in rows:
            counts[row["bin"]] = row["n"]
        low, high = rows[0]["low"], rows[0]["high"]
        peak = low + (high - low) * (counts.index(max(counts)) + 0.5) / 24
        alt = f"{name}: from {low:.3g} to {high:.3g}, most tracks near {peak:.3g}."
        drawn.append(Plot(name, plots.histogram(counts, low, high, alt, _axis_number)))
    pairs = run_queries.rows(connection, duck.render("report/correlations"))
    names = list(dict.fromkeys(row["a"] for row in pairs))
    value = {(row["a"], row["b"]): row["correlation"] for row in pairs}
    known = [
        (row["correlation"], row["a"], row["b"])
        for row in pairs
        if row["a"] < row["b"] and row["correlation"] is not None
    ]
    finding = "No two columns vary together."
    if known:
        strongest = sorted(known, key=lambda pair: -abs(pair[0]))[:3]
        finding = "Strongest: " + "; ".join(f"{a} and {b} {signed(r, 2)}" for r, a, b in strongest) + "."
    svg = plots.matrix(
        names, names, [[value[a, b] for b in names] for a in names], lambda r: f"{100 * r:.0f}", abs,
        f"Correlations of {len(names)} columns. {finding}", signed=True,
    )  # fmt: skip
    return [
        Figure(
            name="distributions",
            title="Distribution of each column",
            finding="Tracks between the 0.5th and the 99.5th percentile of each column; missing values are left out.",
            plots=drawn,
            size="small",
        ),
        Figure(
            name="correlations",
            title="Which columns vary together",
            finding=finding,
            plots=[Plot("", svg)],
            size="whole",
            note="Pearson's correlation, in percent; orange: negative. Up to 100,000 tracks.",
        ),
    ]


def _axis_number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"

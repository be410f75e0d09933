"""Pages of a run in the Prefect UI: tables and Markdown, made by SQL from what is stored.

The UI renders descriptions, pages and (in its first version) table cells as Markdown with HTML. So all text from the
data or from outside goes through `quoted`, and only into pages; tables have only names and figures of the project.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb

from tasks.features.registry import BuiltTable
from tasks.ingest.snapshots import Snapshot, attach
from tasks.reporting import report
from tasks.results import database, learning_curve, run_queries
from tasks.results.run_queries import BOARD, LEADERBOARDS, Row, Rows, interval_text, number, signed
from tasks.specs import GENERATED, METRICS
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training.drift import Drift, Statistic

LONGEST = 300  # characters of a quoted text
SHOWN = 50  # rows of a table within a page
Content = str | list[dict[str, str]]  # Markdown, or the rows of a table


@dataclass(frozen=True, slots=True)
class ArtifactPage:
    """The content of a Prefect artifact."""

    key: str
    description: str
    content: Content


def quoted(text: object) -> str:
    """Returns untrusted text as a Markdown code span, so that it cannot be a link, HTML or the end of a table cell."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    line = line.replace("`", "'").replace("|", "¦")
    shown = line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
    return f"`{shown}`" if shown else "(empty)"


def run_pages(run_id: str, warehouse: Warehouse) -> list[ArtifactPage]:
    """Returns a run's summary, a leaderboard per task, and parity, learning curve and leak ledger if there are any."""
    with database.published(warehouse) as connection:
        run = run_queries.run_of(connection, run_id)
        made: list[tuple[str, str, Content]] = [
            ("summary", "What ran, and what came of it.", _summary(connection, run, warehouse)),
            *(
                (f"leaderboard-{task}", f"{task.capitalize()}, test split.", _leaderboard(connection, run_id, task))
                for task in LEADERBOARDS
            ),
            ("parity", _parity_in_short(connection, run), _parity(connection, run)),
            ("learning-curve", "What more training rows improved.", _curve(connection, run_id)),
            ("leak-ledger", "What each leak is worth: accuracy or RMSE with it and without.", _leaks(connection, run)),
        ]
    of_run = f"{'Run' if run['is_current'] else 'Trial'} {run_id}, budget {run['budget']}, {quoted(run['source'])}."
    return [
        _page(name, f"{description} {of_run}", content, is_generated=run["is_generated"])
        for name, description, content in made
        if content
    ]


def _curve(connection: duckdb.DuckDBPyConnection, run_id: str) -> str:
    """Returns the answers of a learning curve; empty for another run."""
    answers = [
        f"- {step['task']}, {learning_curve.answer(step)}" for step in learning_curve.last_gains(connection, run_id)
    ]
    return "\n".join(["# What would more data buy?", "", *answers]) if answers else ""


def report_page(run_id: str, warehouse: Warehouse) -> list[ArtifactPage]:
    """Writes the run's report, one HTML file, and returns a page that says where it is."""
    path = report.write_report(run_id, warehouse)
    with database.published(warehouse) as connection:
        run = run_queries.run_of(connection, run_id)
    content = f"# Report\n\nEvery figure of run `{run_id}`, in one file for any browser:\n\n{quoted(path)}"
    description = f"Where the report of run {run_id} is: {quoted(path.name)} below reports/ of the warehouse."
    return [_page("report", description, content, is_generated=run["is_generated"])]


def quality_page(snapshot: Snapshot, tables: list[BuiltTable], warehouse: Warehouse) -> ArtifactPage:
    """Returns the data quality of an input: what was read, left out, missing and duplicated."""
    with duck.workspace(spill=warehouse.scratch) as connection:
        attach(connection, snapshot.snapshot, warehouse)
        for table in tables:
            if table.table_name.startswith("staging."):
                duck.view(connection, table.table_name, warehouse.here(table.path))
        found = {
            name: run_queries.rows(connection, duck.render(f"quality/{name}"))
            for name in ("rejects", "missing", "genres", "duplicates")
        }
    content = _quality(snapshot, found)
    return _page("data-quality", f"{quoted(snapshot.source)} as read.", content, is_generated=snapshot.is_generated)


def drift_page(drift: Drift) -> ArtifactPage:
    """Returns what a comparison of tracks found, what drifted first."""
    others = f"the snapshot before it, `{drift.reference}`"
    if drift.kind == "predictions":
        others = f"the training rows of the models, feature version `{drift.reference}`"
    drifted = drift.drifted
    names = ["column", "statistic", "status", "PSI", "by chance", "before", "now"]
    tables = {
        f"## Drifted: {len(drifted)}": [_drift_row(one) for one in drifted],
        "## The others": [_drift_row(one) for one in drift.statistics if not one.is_drifted],
    }
    parts = (f"{title}\n\n{_table(names, rows) or 'None.'}" for title, rows in tables.items())
    note = (
        "PSI: without what is expected of two samples of one distribution. Below 0.1 stable, from 0.25 on large. By "
        "chance: what PSI exceeds once in a thousand times. All: `select * from results.drift`."
    )
    content = "\n\n".join([f"{quoted(drift.source)} compared with {others}: **{drift.status}**.", *parts, note])
    name = "drift" if drift.kind == "source" else "predictions-drift"
    description = f"{quoted(drift.source)}: {drift.status}, {len(drifted)} statistics drifted."
    return _page(name, description, content, is_generated=drift.is_generated)


def _drift_row(one: Statistic) -> list[str]:
    shares = ["" if share is None else f"{share:.2%}" for share in (one.reference_share, one.share)]
    statistic = one.statistic if one.genre is None else f"{one.statistic} {quoted(one.genre)}"
    return [
        f"`{one.column_name}`",
        statistic,
        one.status,
        number(one.psi_corrected),
        number(one.psi_by_chance),
        *shares,
    ]


def _page(name: str, description: str, content: Content, *, is_generated: bool) -> ArtifactPage:
    """Returns a page; generated data has other keys, so that it never appears in the history of real results."""
    if not is_generated:
        return ArtifactPage(name, description, content)
    marked = f"**{GENERATED}**\n\n{content}" if isinstance(content, str) else content
    return ArtifactPage(f"{name}-sample", f"**GENERATED DATA.** {description}", marked)


def _leaderboard(connection: duckdb.DuckDBPyConnection, run_id: str, task: str) -> list[dict[str, str]]:
    first, *others = (name for name in LEADERBOARDS[task] if name not in {"precision_macro", "recall_macro"})
    table = []
    for protocol in run_queries.protocols(connection, run_id):
        rows = run_queries.leaderboard(connection, run_id, protocol, task)
        has_samples = any(row["sampled_from"] for row in rows)
        for place, row in enumerate(rows, start=1):
            figures = {name.removesuffix("_macro"): number(row[name]) for name in others}
            over_seeds = {"± seeds": number(row["sd"])} if any(other["seeds"] > 1 for other in rows) else {}
            table.append(
                {
                    "rank": str(place),
                    "protocol": protocol,
                    "model": row["model"],
                    "features": row["feature_set"],
                    first: number(row[first]),
                    "95 % interval": interval_text(row["low"], row["high"]),
                    **over_seeds,
                    **figures,
                    "fit s": number(row["fit_seconds"], 1),
                    "reused": "reused" if row["reused"] else "",
                    **({"trained on": run_queries.sampled(row) or "all rows"} if has_samples else {}),
                }
            )
    return table


def _parity_in_short(connection: duckdb.DuckDBPyConnection, run: Row) -> str:
    rows = run_queries.parity(connection, run)
    within = sum(row["is_within"] for row in rows)
    return f"{within} of the study's {len(rows)} figures reproduced within tolerance."


def _parity(connection: duckdb.DuckDBPyConnection, run: Row) -> list[dict[str, str]]:
    """Returns every published figure; those outside the tolerance come first."""
    return [
        {
            "task": row["task"],
            "model": row["model"],
            "features": row["feature_set"],
            "split": row["split"],
            "metric": row["metric"],
            "ours": number(row["ours"], 4),
            "study": number(row["published"], 4),
            "difference": signed(row["difference"], 4),
            "within tolerance": "yes" if row["is_within"] else "OFF",
        }
        for row in sorted(run_queries.parity(connection, run), key=lambda row: row["is_within"])
    ]


def _leaks(connection: duckdb.DuckDBPyConnection, run: Row) -> list[dict[str, str]]:
    table = []
    for row in run_queries.leaks(connection, run):
        digits = METRICS[row["metric"]].digits
        table.append(
            {
                "leak": row["leak"],
                "model": row["model"],
                "features": row["feature_set"],
                "metric": row["metric"],
                "with it": number(row["with_leak"], digits),
                "without": number(row["without_leak"], digits),
                "inflation": signed(row["inflation"], digits),
                "95 % interval": interval_text(row["inflation_low"], row["inflation_high"], digits),
            }
        )
    return table


def _summary(connection: duckdb.DuckDBPyConnection, run: Row, warehouse: Warehouse) -> str:
    run_id = run["run_id"]
    counts = run_queries.cell_counts(connection, run_id)
    seconds = (run["finished_at"] - run["started_at"]).total_seconds() if run["finished_at"] else None
    best = []
    for protocol in run_queries.protocols(connection, run_id):
        for task, metrics in LEADERBOARDS.items():
            for row in run_queries.leaderboard(connection, run_id, protocol, task)[:1]:
                sure = interval_text(row["low"], row["high"])
                best.append(
                    [task, protocol, row["model"], row["feature_set"], f"{metrics[0]} {number(row[metrics[0]])}", sure]
                )
    failed = [
        [
            row["status"],
            f"{row['tasks']} {row['model']} on {row['feature_set']} ({row['protocol']}, seed {row['seed']})",
            quoted(row["error"]),
        ]
        for row in run_queries.failures(connection, run_id)
    ]
    took = "" if seconds is None else f" in {seconds:,.0f} s"
    facts = [
        ["run", f"{run['status']}{took} on {run['cpu_count']} cores, budget {run['budget']}"],
        ["cells", f"{counts['n']}: {counts['ok']} ok ({counts['reused']} of them reused), {counts['failed']} failed"],
        ["source", quoted(run["source"])],
    ]
    code = f", code `{run['git_commit'][:12]}`" if run["git_commit"] else ""
    sections = [
        _table(["", ""], facts),
        *(["## Failed", _table(["status", "cell", "error"], failed)] if failed else []),
        "## Best models, test split",
        _table(["task", "protocol", "model", "features", "metric", "95 % interval"], best) or "None.",
        "## Query it",
        f"Run `{run_id}`, snapshot `{run['snapshot']}`{code}, by {quoted(warehouse.client)}:",
        f"```sql\n{BOARD};\n{BOARD.replace('leaderboard', 'scores')} where run_id = '{run_id}';\n```",
    ]
    return "\n\n".join(sections)


def _quality(snapshot: Snapshot, found: dict[str, Rows]) -> str:
    kept = sum(row["n"] for row in found["genres"] if not row["is_dropped"])
    rare = sum(row["n"] for row in found["genres"] if row["is_dropped"])
    read = [
        ["rows read", f"{snapshot.rows_read:,}"],
        ["blank", f"{snapshot.blank_rows:,}"],
        ["without a genre", f"{snapshot.rows_without_genre:,}"],
        ["rejected", f"{snapshot.rejected_rows:,}"],
        ["of genres too rare to split", f"{rare:,}"],
        ["**tracks kept**", f"**{kept:,}**"],
    ]
    rejects = [
        [f"`{row['column_name']}`", quoted(row["reason"]), f"{row['n']:,}", f"{row['first_line']:,}",
         quoted(row["first_error"])]
        for row in found["rejects"]
    ]  # fmt: skip
    missing = [[f"`{row['column_name']}`", f"{row['n']:,}", f"{row['share']:.1%}"] for row in found["missing"]]
    genres = [
        [quoted(row["music_genre"]), f"{row['n']:,}", f"{row['n'] / kept:.1%}" if not row["is_dropped"] else "dropped"]
        for row in found["genres"]
    ]
    [copies] = found["duplicates"]
    duplicates = (
        f"{copies['n_recordings']:,} recordings are listed more than once, as {copies['n_tracks']:,} tracks; "
        f"{copies['n_several_genres']:,} of them under more than one genre."
    )
    notes = [f"- {quoted(note)}" for note in snapshot.notes]
    sections = [
        _table(["", "rows"], read),
        *(["## What to know of the file", "\n".join(notes)] if notes else []),
        "## Rejected values",
        _table(["column", "reason", "values", "first line", "there"], rejects) or "None.",
        "## Missing values of the tracks kept",
        _table(["column", "tracks", "share"], missing) or "None.",
        f"## Genres: {sum(not row['is_dropped'] for row in found['genres'])}",
        _table(["genre", "tracks", "share"], genres),
        "## Duplicates",
        duplicates,
        f"Snapshot `{snapshot.snapshot}`; every rejected value, with its line: `select * from raw.rejects`.",
    ]
    return "\n\n".join(sections)


def _table(names: list[str], rows: list[list[str]]) -> str:
    """Returns a Markdown table of at most SHOWN rows, with figures aligned right; empty if there are no rows."""
    if not rows:
        return ""
    figures = [all(re.fullmatch(r"\**[-+\d.,% ]*\**|dropped", row[at]) for row in rows) for at in range(len(names))]
    lines = [names, ["--:" if is_figure else "---" for is_figure in figures], *rows[:SHOWN]]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    more = len(rows) - SHOWN
    return f"{table}\n\n{more:,} more rows are not shown." if more > 0 else table

"""The report of a run: one self-contained HTML file, made by SQL from the published tables."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb

from tasks.errors import UserError
from tasks.reporting import comparison
from tasks.reporting.figures import champions, drift, learning_curve, models
from tasks.reporting.figures import results as report_results
from tasks.reporting.figures import run as report_run
from tasks.reporting.figures.results import Results
from tasks.reporting.page import Page, Section, duration, render, shortened
from tasks.results import database, run_queries
from tasks.results.run_queries import Row
from tasks.specs import BUDGETS, GENERATED
from tasks.storage.outputs import replacing_beside
from tasks.storage.warehouse import Warehouse

# The figures of the section "How the models behave".
BEHAVIOUR = (
    models.confusion,
    models.predicted_popularity,
    models.reliability,
    models.history,
    models.ensembles,
)
OF_CELLS = ("cells", "reused cells")  # facts that count the cells of results.cells


def write_report(run_id: str | None, warehouse: Warehouse, out: Path | None = None) -> Path:
    """Writes the report of a published run.

    Args: run_id: by default the newest completed run. out: by default the run's place in the warehouse.

    Raises: UserError: there is no such run; OSError: the report cannot be written.
    """
    with database.published(warehouse) as connection:
        run = database.find_run(connection, run_id)
    with database.as_of(run, warehouse) as connection:
        html = render(curve_page(connection, run) or run_page(connection, run))
    return write(html, out or warehouse.report(run["run_id"]), warehouse)


def write_comparison(run_id: str | None, other_id: str, warehouse: Warehouse, out: Path | None = None) -> Path:
    """Writes a comparison of two published runs. Raises: as write_report; UserError: they are the same run."""
    with database.published(warehouse) as connection:
        run, other = database.find_run(connection, run_id), database.find_run(connection, other_id)
    if run["run_id"] == other["run_id"]:
        raise UserError(f"--compare {other_id}: is the run itself. Others: select run_id, status from results.runs.")
    with database.as_of(run, warehouse) as connection:
        html = render(comparison.comparison_page(connection, run, other, warehouse))
    name = f"{run['run_id']}-against-{other['run_id']}"
    return write(html, out or warehouse.report(name), warehouse)


def write(html: str, path: Path, warehouse: Warehouse) -> Path:
    """Writes a page, completely or not at all."""
    if path.is_relative_to(warehouse.root):
        with warehouse.replacing(path, is_rewritten=True) as temporary:
            temporary.write_text(html, encoding="utf-8")
    else:
        with replacing_beside(path) as temporary:  # may be on another file system
            temporary.write_text(html, encoding="utf-8")
    return path


def run_page(connection: duckdb.DuckDBPyConnection, run: Row) -> Page:
    """Returns the report of a run. Args: connection: from database.as_of."""
    results = Results.of(connection, run)
    leaks, found, is_trial = results.rows("leaks"), results.rows("champions"), not run["is_current"]
    sections = [
        Section(
            name="leaderboards",
            title="Which model is best",
            figures=[
                figure
                for task in run_queries.LEADERBOARDS
                for figure in (
                    report_results.leaderboard(results, task),
                    report_results.cross_validation(results, task),
                )
                if figure
            ],
            links=report_results.model_links(results),
        ),
        Section(
            name="champions",
            title="The trial's champions" if is_trial else "Which models predict new tracks",
            figures=champions.champions(found, is_trial=is_trial),
        ),
        Section(
            name="leaks",
            title="What the figures are worth",
            figures=[report_results.ledger(results, leaks), report_results.parity(results)],
        ),
        Section(
            name="features",
            title="Feature sets and features",
            figures=[
                report_results.by_feature_set(results, "genre", "f1_macro"),
                report_results.by_feature_set(results, "popularity", "rmse"),
                *models.importance(results),
            ],
        ),
        Section(
            name="behaviour",
            title="How the models behave",
            figures=[figure for draw in BEHAVIOUR if (figure := draw(results))],
        ),
        Section(
            name="run",
            title="The run",
            figures=[report_run.time_and_memory(results), report_run.failures(connection, run)],
        ),
        Section(name="data", title="The data", figures=[*report_run.quality(connection, run), *drift.drift(results)]),
    ]
    return Page(
        title=f"{shortened(run['source'])}, {run['started_at']:%d %B %Y}",
        kind=f"Benchmark run {run['run_id']}",
        facts=facts(connection, run),
        findings=[
            report_results.best_honest(results),
            champions.champions_in_words(found, is_trial=is_trial),
            report_results.leak_in_words(leaks),
        ],
        sections=sections,
        warnings=warnings(connection, run),
        definitions=definitions(connection, run),
        generated=GENERATED if run["is_generated"] else None,
    )


def curve_page(connection: duckdb.DuckDBPyConnection, run: Row) -> Page | None:
    """Returns the page of a learning curve; None for another run. Args: connection: from database.as_of."""
    sections, findings = learning_curve.sections(connection, run)
    if not sections:
        return None
    return Page(
        title=f"{shortened(run['source'])}, {run['started_at']:%d %B %Y}",
        kind=f"Learning curve, run {run['run_id']}",
        facts=[fact for fact in facts(connection, run) if fact[0] not in OF_CELLS],
        findings=findings,
        sections=[*sections, Section(name="data", title="The data", figures=report_run.quality(connection, run))],
        warnings=warnings(connection, run),
        definitions=definitions(connection, run),
        generated=GENERATED if run["is_generated"] else None,
    )


def definitions(connection: duckdb.DuckDBPyConnection, run: Row) -> list[tuple[str, str]]:
    """Returns what each protocol of a run means."""
    found = run_queries.rows(
        connection,
        """
        select protocol, description from results.protocols
        where protocol in (select protocol from results.cells where run_id = $run_id)
        order by is_probe, protocol desc
        """,
        run_id=run["run_id"],
    )
    return [(f"Protocol {row['protocol']}", row["description"]) for row in found]


def facts(connection: duckdb.DuckDBPyConnection, run: Row) -> list[tuple[str, str]]:
    """Returns a run's facts: status, source, settings, counts and versions."""
    counts = run_queries.cell_counts(connection, run["run_id"])
    seconds = (run["finished_at"] - run["started_at"]).total_seconds() if run["finished_at"] else None
    versions = json.loads(run["versions"])
    protocols = run_queries.protocols(connection, run["run_id"], with_probes=True)
    return [
        ("status", run["status"]),
        ("source", "generated sample" if run["is_generated"] else shortened(run["source"])),
        ("budget", run["budget"]),
        (
            "protocols",
            ", ".join(protocols) or "none with results",
        ),
        ("cells", f"{counts['n']}, {counts['ok']} ok, {counts['failed']} failed"),
        ("reused cells", f"{counts['reused']}"),
        ("started (UTC)", f"{run['started_at']:%Y-%m-%d %H:%M}"),
        ("took", duration(seconds)),
        ("cores", f"{run['cpu_count']}"),
        ("code", run["git_commit"][:12] if run["git_commit"] else "not a git checkout"),
        ("snapshot of the data", run["snapshot"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def warnings(connection: duckdb.DuckDBPyConnection, run: Row) -> list[str]:
    """Returns warnings to be read before the figures."""
    found = []
    if trial := run_queries.trial(connection, run):
        found.append(trial)
    if run["status"] != "completed":
        found.append(f"This run is {run['status']}: its results are not whole.")
    if caution := BUDGETS[run["budget"]].caution:
        found.append(caution)
    if failed := run_queries.cell_counts(connection, run["run_id"])["failed"]:
        found.append(f"{failed} cells failed: see The run, Failures.")
    return found

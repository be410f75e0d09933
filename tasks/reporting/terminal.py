"""The summary that a command prints at its end, queried by SQL from the published database."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tasks.errors import one_line
from tasks.features.registry import BuiltTable
from tasks.plugins import loaded_files
from tasks.reporting import bars
from tasks.results import database, learning_curve, run_queries
from tasks.results.run_queries import BOARD, BOARD_OF_RUN, LEADERBOARDS, interval_text, number, signed
from tasks.specs import GENERATED, METRICS
from tasks.storage.warehouse import Warehouse
from tasks.training.drift import source_drift

EXAMPLE = Path("examples/new_songs.csv")  # in the project's folder
Columns = dict[str, Callable[[dict[str, Any]], str]]  # what a table shows of a row, by heading
LAYOUT = {"title_justify": "left", "collapse_padding": True, "pad_edge": False}


def print_run(run_id: str, warehouse: Warehouse) -> str:
    """Prints a run's leaderboards, leaks, parity with the study if it applies, and failures.

    Returns: the run's status.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    with database.published(warehouse) as connection:
        run = run_queries.run_of(connection, run_id)
        if run["is_generated"]:
            console.print(f"\n[bold yellow]{GENERATED}[/]")
        for protocol in run_queries.protocols(connection, run_id):
            for task, metrics in LEADERBOARDS.items():
                _leaderboard(console, connection, run, protocol, task, metrics)
                _cross_validated(console, connection, run, protocol, task, metrics)
        _ledger(console, connection, run)
        _parity(console, connection, run)
        _failures(console, connection, run_id)
        can_predict = bool(connection.execute("from results.champions where is_current").fetchall())
        trial = run_queries.trial(connection, run)
    if trial:
        console.print(f"\n[bold yellow]{escape(trial)}[/]", emoji=False, soft_wrap=True)
    _drift(console, run["snapshot"], warehouse)
    _suggest(console, warehouse, run_id, f"{BOARD_OF_RUN} where run_id = '{run_id}'" if trial else BOARD)
    if can_predict and EXAMPLE.exists():
        plugins = f" --plugins {shlex.quote(','.join(loaded_files()))}" if loaded_files() else ""
        songs = f"{EXAMPLE} --warehouse {shlex.quote(warehouse.address)}{plugins}"
        _literal(console, f"Predict:  python -m flows.predict {songs}")
        _literal(console, f"Explain:  python -m flows.feedback {songs} --track-id 2")
    return str(run["status"])


def print_curve(run_id: str, warehouse: Warehouse) -> str:
    """Prints the learning curve of each task, and whether more data would help. Returns: the run's status."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    with database.published(warehouse) as connection:
        run = run_queries.run_of(connection, run_id)
        points, steps = learning_curve.curve_of(connection, run_id), learning_curve.last_gains(connection, run_id)
    if run["is_generated"]:
        console.print(f"\n[bold yellow]{GENERATED}[/]")
    for task, (metric, *_) in LEADERBOARDS.items():
        found = [row for row in points if row["task"] == task and row["value"] is not None]
        if found:
            kind = f"protocol {found[0]['protocol']}, budget {run['budget']}, {_data(run)}"
            title = _plain(f"\n{task.capitalize()}: {METRICS[metric].label} by training rows, same test rows, {kind}")
            console.print(title, soft_wrap=True)
            console.print(_curve_table(metric, found))
            for step in steps:
                if step["task"] == task:
                    console.print(learning_curve.answer(step), highlight=False, soft_wrap=True)
    for row in points:
        if row["status"] != "ok":
            rows = "all" if row["train_rows"] is None else f"{row['train_rows']:,}"
            console.print(f"[bold red]{row['status']}[/] {row['task']} {row['model']} on {rows} rows: ", end="")
            console.print(one_line(row["error"]), markup=False, emoji=False, soft_wrap=True)
    _drift(console, run["snapshot"], warehouse)
    _suggest(console, warehouse, run_id, "select task, model, n_train, metric, value from results.learning_curve")
    return str(run["status"])


def _drift(console: Console, snapshot: str, warehouse: Warehouse) -> None:
    """Prints what drifted in a snapshot since the one before it; nothing if nothing did."""
    found = source_drift(snapshot, warehouse)
    if found and found.warning:
        console.print(f"\n[bold yellow]{escape(found.warning)}[/]", emoji=False, highlight=False, soft_wrap=True)


def _suggest(console: Console, warehouse: Warehouse, run_id: str, select: str) -> None:
    _literal(console, f'\nQuery it: {warehouse.client} "{select}"  (run {run_id})')
    if (report := warehouse.report(run_id)).exists():
        _literal(console, f"Report:   {report}")


def _literal(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, markup=False, emoji=False)


def _curve_table(metric: str, points: list[dict[str, Any]]) -> Table:
    sizes = sorted({row["n_train"] for row in points})
    made = Table(box=box.SIMPLE_HEAD, **LAYOUT)  # type: ignore[arg-type]
    made.add_column("model", no_wrap=True)
    for name in [*(f"{n:,}" for n in sizes), "fit s", "MiB"]:
        made.add_column(name, justify="right", no_wrap=True)
    for model in dict.fromkeys(row["model"] for row in points):
        at = {row["n_train"]: row for row in points if row["model"] == model}
        values = [number(at[n]["value"], METRICS[metric].digits) if n in at else "" for n in sizes]
        most = at[max(at)]
        made.add_row(model, *values, f"{most['fit_seconds']:.1f}", f"{most['peak_rss_mb']:.0f}")
    return made


def print_features(tables: list[BuiltTable], warehouse: Warehouse, began: datetime) -> None:
    """Prints the feature tables of a build. Args: began: start of the command; older tables were reused."""
    table = Table(title="Feature tables", title_justify="left", box=box.SIMPLE_HEAD)
    for name, justify in (
        ("table", "left"),
        ("protocol", "left"),
        ("rows", "right"),
        ("seconds", "right"),
        ("", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in tables:
        made = "built" if row.built_at >= began else "reused"
        table.add_row(row.table_name, row.protocol or "", f"{row.rows:,}", f"{row.build_seconds:.2f}", made)
    console = Console()
    console.print(table)
    _drift(console, tables[0].snapshot, warehouse)
    _literal(
        console, f'Query them: {warehouse.client} "select table_name, protocol, rows, path from features.registry"'
    )


def _leaderboard(
    console: Console,
    connection: duckdb.DuckDBPyConnection,
    run: dict[str, Any],
    protocol: str,
    task: str,
    metrics: tuple[str, ...],
) -> None:
    rows = run_queries.leaderboard(connection, run["run_id"], protocol, task)
    has_seeds = any(row["seeds"] > 1 for row in rows)
    more: Columns = {"± seeds": lambda row: number(row["sd"])} if has_seeds else {}
    more |= _metrics(metrics[1:]) | {
        "fit s": lambda row: f"{row['fit_seconds']:.1f}",
        "predict s": lambda row: f"{row['predict_seconds']:.1f}",
        "MiB": lambda row: f"{row['peak_rss_mb']:.0f}",
        "": lambda row: ", ".join(filter(None, [run_queries.sampled(row), "reused" if row["reused"] else ""])),
    }
    title = f"{task.capitalize()}: test split, protocol {protocol}, budget {run['budget']}, {_data(run)}"
    _ranking(console, title, rows, metrics[0], more)


def _cross_validated(
    console: Console,
    connection: duckdb.DuckDBPyConnection,
    run: dict[str, Any],
    protocol: str,
    task: str,
    metrics: tuple[str, ...],
) -> None:
    rows = run_queries.cross_validated(connection, run["run_id"], protocol, task)
    more: Columns = {"± folds": lambda row: number(row["sd"])}
    more |= _metrics(metrics[1:]) | {"fit s": lambda row: f"{row['fit_seconds']:.1f}"}
    if rows:
        each = f"{rows[0]['n']:,} tracks, each tested once in {run_queries.in_folds(rows[0])}"
        title = f"{task.capitalize()}: {each}, protocol {protocol}, budget {run['budget']}, {_data(run)}"
        _ranking(console, title, rows, metrics[0], more)


def _metrics(names: tuple[str, ...]) -> Columns:
    def value_of(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda row: number(row[name])

    return {name.removesuffix("_macro"): value_of(name) for name in names}


def _ranking(console: Console, title: str, rows: list[dict[str, Any]], metric: str, more: Columns) -> None:
    """Prints models and feature sets, best first, with a metric and its interval. Args: more: further columns."""
    if not rows:
        return
    drawn = bars.intervals([(row["low"], row[metric], row["high"]) for row in rows], console.encoding)

    def table(*, with_bars: bool) -> Table:
        made = Table(title=_plain(f"\n{title}"), box=box.SIMPLE_HEAD, **LAYOUT)  # type: ignore[arg-type]
        for name in ("model", "feature set"):
            made.add_column(name, no_wrap=True)
        for name in (metric, "95 % interval"):
            made.add_column(name, justify="right", no_wrap=True)
        if with_bars:
            made.add_column("", no_wrap=True)
        for name in more:
            made.add_column(name, justify="right" if name else "left", no_wrap=bool(name))
        for place, row in enumerate(rows):
            cells = [row["model"], row["feature_set"], number(row[metric]), interval_text(row["low"], row["high"])]
            cells += [drawn[place]] if with_bars else []
            made.add_row(*cells, *(shown(row) for shown in more.values()), style="" if place else "bold")
        return made

    _print(console, table)


def _print(console: Console, table: Callable[..., Table]) -> None:
    """Prints a table with its bars, or without them if the terminal is too narrow."""
    drawn = table(with_bars=True)
    fits = console.measure(drawn, options=console.options.update(width=1000)).maximum <= console.width
    console.print(drawn if fits else table(with_bars=False))


def _ledger(console: Console, connection: duckdb.DuckDBPyConnection, run: dict[str, Any]) -> None:
    """Prints how much the study's imputation and the other leaks inflate each model's figures."""
    rows = run_queries.leaks(connection, run)
    data = _data(run)
    slices = {
        "published": "with_leak",
        "(imputed)": "published_imputed",
        "(observed)": "published_observed",
        "label_free": "without_leak",
        "cold_start": "cold_start_all",
    }
    imputation = [row for row in rows if row["leak"] == "imputation"]
    _leaks(console, f"Leak: imputation, accuracy or RMSE, {data}", ["task", "model", "feature_set"], slices, imputation)
    others = [row for row in rows if row["leak"] != "imputation"]
    sides = {"with it": "with_leak", "without": "without_leak"}
    _leaks(console, f"Other leaks, accuracy or RMSE, {data}", ["leak", "task", "model", "feature_set"], sides, others)


def _leaks(console: Console, title: str, names: list[str], figures: dict[str, str], rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    most: dict[str, float] = {}
    for row in rows:
        most[row["metric"]] = max(most.get(row["metric"], 0.0), abs(row["inflation"]))

    def table(*, with_bars: bool) -> Table:
        made = Table(title=_plain(f"\n{title}"), box=box.SIMPLE_HEAD, **LAYOUT)  # type: ignore[arg-type]
        for name in names:
            made.add_column(name.replace("_", " "), no_wrap=True)
        for name in [*figures, "inflation", "95 % interval"]:
            made.add_column(name, justify="right", no_wrap=True)
        if with_bars:
            made.add_column("", no_wrap=True)
        for row in rows:
            digits = METRICS[row["metric"]].digits
            cells = [row[name] for name in names] + [number(row[name], digits) for name in figures.values()]
            cells += [
                signed(row["inflation"], digits),
                interval_text(row["inflation_low"], row["inflation_high"], digits),
            ]
            cells += [bars.bar(abs(row["inflation"]), most[row["metric"]], console.encoding)] if with_bars else []
            made.add_row(*cells)
        return made

    _print(console, table)


def _data(run: dict[str, Any]) -> str:
    return "generated sample" if run["is_generated"] else one_line(run["source"])


def _plain(title: str) -> Text:
    """Returns a title without rich's markup, so that [red] and :smile: stay text."""
    return Text(title, style="table.title")


def _parity(console: Console, connection: duckdb.DuckDBPyConnection, run: dict[str, Any]) -> None:
    rows = run_queries.parity(connection, run)
    if not rows:
        return
    table = Table(
        title="\nParity with the published study (headline figure of each cell)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("task", "model", "feature set", "split", "metric"):
        table.add_column(name)
    for name in ("ours", "study", "difference"):
        table.add_column(name, justify="right")
    table.add_column("")
    has_test = {(r["task"], r["model"], r["feature_set"]) for r in rows if r["split"] == "test"}
    for row in rows:
        cell = (row["task"], row["model"], row["feature_set"])
        is_headline = METRICS[row["metric"]].is_headline and (row["split"] == "test" or cell not in has_test)
        if is_headline or not row["is_within"]:
            figures = [f"{row['ours']:.4f}", f"{row['published']:.4f}", signed(row["difference"], 4)]
            table.add_row(*cell, row["split"], row["metric"], *figures, "" if row["is_within"] else "off")
    console.print(table)
    within = sum(row["is_within"] for row in rows)
    console.print(f"{within} of {len(rows)} published figures reproduced within tolerance; all: results.parity")


def _failures(console: Console, connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    for row in run_queries.failures(connection, run_id):
        cell = f"{row['tasks']} {row['model']} on {row['feature_set']} ({row['protocol']}, seed {row['seed']})"
        console.print(f"[bold red]{row['status']}[/] {cell}: ", end="")
        console.print(one_line(row["error"]), markup=False, emoji=False, soft_wrap=True)

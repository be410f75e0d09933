"""Runs one query on the published database safely: read only, no other files, only SELECT."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, TextIO

import duckdb
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.errors import UserError, is_text, one_line
from tasks.results import database
from tasks.results.descriptions import SCHEMAS
from tasks.storage.warehouse import Warehouse

SHOWN = 200  # rows of a printed table; csv and json have all rows
FETCHED_ROWS = 10_000  # rows fetched at a time
ResultRows = Iterator[tuple[Any, ...]]


@contextmanager
def locked(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens the published database so that queries can neither change it nor read files outside the warehouse.

    The warehouse stays readable because views read its Parquet files. Queries cannot change settings.

    Raises: UserError: nothing has been published.
    """
    with database.published(warehouse) as connection:
        connection.execute("set allowed_directories = $folders", {"folders": [f"{warehouse.address}/"]})
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        yield connection


def _selected(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """Returns the one SELECT (or FROM, WITH, SHOW, DESCRIBE, SUMMARIZE) that a text holds.

    Raises: UserError: it is another statement, which could write files; duckdb.Error: it is not valid.
    """
    if not is_text(sql):
        raise UserError(f"{sql}: is not text in UTF-8 to this process. Set PYTHONUTF8=1 if the locale is not in UTF-8.")
    statements = connection.extract_statements(sql)
    if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
        found = ", ".join(str(one.type).rpartition(".")[2] for one in statements) or "nothing"
        # A PIVOT without IN is of type MULTI, and so is a COPY of it.
        hint = " A PIVOT needs its values named: ON column IN (...)." if found == "MULTI" else ""
        raise UserError(f"One SELECT is needed, to read from the published database; found: {found}.{hint}")
    return statements[0]


def ask(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], ResultRows]:
    """Returns the column names and rows of one SELECT. Raises: as `_selected`."""
    result = connection.execute(_selected(connection, sql))
    names = [column[0] for column in result.description or []]

    def rows() -> ResultRows:
        while batch := result.fetchmany(FETCHED_ROWS):
            yield from batch

    return names, rows()


def write_table(names: list[str], rows: ResultRows, out: TextIO) -> None:
    """Writes the first 200 rows as a table for readers, with numbers aligned to the right."""
    first = []
    for row in rows:
        first.append(row)
        if len(first) > SHOWN:
            break
    console = Console(file=out) if out.isatty() else Console(file=out, width=10_000)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for at, name in enumerate(names):
        is_number = all(isinstance(row[at], (int, float, Decimal)) or row[at] is None for row in first)
        table.add_column(Text(one_line(name)), justify="right" if is_number else "left", no_wrap=not out.isatty())
    columns = [_column(values) for values in zip(*first[:SHOWN], strict=True)]
    for cells in zip(*columns, strict=True):
        table.add_row(*map(Text, cells))
    with console.capture() as captured:
        console.print(table)
    out.write("\n".join(line.rstrip() for line in captured.get().strip("\n").splitlines()) + "\n")
    if len(first) > SHOWN:
        out.write(f"... the first {SHOWN} rows; --format csv has all of them\n")


def write_csv(names: list[str], rows: ResultRows, out: TextIO) -> None:
    """Writes CSV with a header; NULL is empty. On a terminal `?` stands for control characters."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(([_harmless(value) for value in row] for row in rows) if out.isatty() else rows)


def write_json(names: list[str], rows: ResultRows, out: TextIO) -> None:
    """Writes a JSON array with one object per line and row; types that JSON lacks become text, NaN becomes null.

    On a terminal all characters outside ASCII are escaped, as some could control it.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"More than one column is called {', '.join(twice)}, which JSON cannot say: name them with AS.")
    out.write("[")
    for number, row in enumerate(rows):
        values = dict(zip(names, map(_json, row), strict=True))
        out.write(("," if number else "") + "\n" + json.dumps(values, default=str, ensure_ascii=out.isatty()))
    out.write("\n]\n")


FORMATS: dict[str, Callable[[list[str], ResultRows, TextIO], None]] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
}


def answer(sql: str, format_name: str, warehouse: Warehouse, out: TextIO = sys.stdout) -> None:
    """Runs a query and writes its result. Raises: as `locked` and `ask`."""
    with locked(warehouse) as connection:
        FORMATS[format_name](*ask(connection, sql), out)


def frame(sql: str, warehouse: Warehouse) -> pl.DataFrame:
    """Returns the result of a query as a frame. Raises: as `locked` and `_selected`."""
    with locked(warehouse) as connection:
        return connection.sql(_selected(connection, sql)).pl()


def list_tables(format_name: str, warehouse: Warehouse, out: TextIO = sys.stdout) -> None:
    """Writes the name of each published table and view, results first, and the first sentence of its comment.

    Raises: as `locked`.
    """
    with locked(warehouse) as connection:
        result = connection.execute(
            """
            with

            published as (
                select schema_name, table_name, comment from duckdb_tables() where database_name = current_database()
                union all
                select schema_name, view_name, comment from duckdb_views() where database_name = current_database()
            )

            select
                schema_name || '.' || table_name as name,
                trim(regexp_extract(comment, '^.*?([.?] |$)')) as description
            from published
            where list_contains($schemas, schema_name)
            order by list_position($schemas, schema_name), table_name
            """,
            {"schemas": SCHEMAS[::-1]},
        )
        FORMATS[format_name](["name", "description"], iter(result.fetchall()), out)


def _harmless(value: Any) -> Any:
    return one_line(value) if isinstance(value, str) else value


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {str(name): _json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_json(part) for part in value]
    is_finite = not isinstance(value, float) or abs(value) < float("inf")
    return value if is_finite else None


def _column(values: tuple[Any, ...]) -> list[str]:
    """Returns a column's values as text; fractions have the same number of decimals, at most four."""
    fractions = [f"{value:.4f}".rstrip("0") for value in values if isinstance(value, (float, Decimal))]
    digits = max((len(text) - text.index(".") - 1 for text in fractions if "." in text), default=0)
    return [_shown(value, digits) for value in values]


def _shown(value: Any, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, (float, Decimal)):
        is_plain = value == 0 or 1 <= abs(value) * 10**digits < 1e11
        return f"{value:.{digits}f}" if is_plain else f"{value:.2g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return one_line(value)

"""What published tables and columns mean: comments of the database, and a page of the documents.

A table is described by the head of its SELECT, a metric's column by `METRICS`, any other column by `sql/columns.csv`.
There `table` is empty where a column means the same everywhere, `column` is empty where a table has no SELECT, and `*`
stands for any text.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from itertools import takewhile
from pathlib import Path

import duckdb

from tasks.specs import METRICS, PROTOCOLS
from tasks.storage import duck

SCHEMAS = ("raw", "staging", "features", "results")
FILE = duck.SQL_ROOT / "columns.csv"
# Tables of contrasts, and the SELECTs of the pairs that they compare.
COMPARED_TABLES = {
    "comparisons": "pairs",
    "fold_comparisons": "fold_pairs",
    "inflation": "leak_pairs",
    "learning_gains": "curve_steps",
}
NAMED = re.compile(rf"\b(?:{'|'.join(SCHEMAS)})\.\w+")


def comment(connection: duckdb.DuckDBPyConnection) -> None:
    """Puts each table's and column's description into the database, where any SQL client shows it."""
    statements = []
    for (kind, table), columns in published_columns(connection).items():
        schema, name = map(duck.identifier, table.split(".", 1))
        if text := of_table(table):
            statements.append(f"comment on {kind} {schema}.{name} is {duck.literal(text)}")
        for column, (_, text) in zip(columns, _described(table, columns), strict=True):
            if text:
                place = f"{schema}.{name}.{duck.identifier(column)}"
                statements.append(f"comment on column {place} is {duck.literal(text)}")
    connection.execute("begin")
    for statement in statements:
        connection.execute(statement)
    connection.execute("commit")


def published_columns(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], list[str]]:
    """The published tables and views, as (table or view, schema.name), each with its columns in order."""
    found = connection.execute(
        """
        select if(views.view_name is null, 'table', 'view'), columns.schema_name || '.' || columns.table_name,
            list(columns.column_name order by columns.column_index)
        from duckdb_columns() as columns
        left join duckdb_views() as views
            on columns.schema_name = views.schema_name and columns.table_name = views.view_name
        where list_contains($schemas, columns.schema_name) and columns.database_name = current_database()
        group by all
        order by all
        """,
        {"schemas": list(SCHEMAS)},
    ).fetchall()
    return {(kind, table): columns for kind, table, columns in found}


def of_table(table: str) -> str:
    """What a row of a table is, from the head of its SELECT; empty if nothing says."""
    for row in _rows():
        if row["table"] == table and not row["column"]:
            return row["description"]
    file = duck.SQL_ROOT / f"{table.replace('.', '/')}.sql"
    return _head(file).removeprefix(f"{table}: ") if file.exists() else ""


def of_column(table: str, column: str) -> str:
    """What a column holds; empty if nothing says."""
    [(_, text)] = _described(table, [column])
    return text


def _described(table: str, columns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each column's name in `sql/columns.csv`, where one may stand for several, and what it holds."""
    named = [row for row in _rows() if row["column"] and row["table"] in {"", table}]
    own_first = sorted(named, key=lambda row: row["table"] != table)
    exact = {row["column"]: row for row in reversed(own_first)}
    for column in columns:
        row = exact.get(column) or next((one for one in own_first if fnmatchcase(column, one["column"])), None)
        yield (row["column"], row["description"]) if row else (column, "")


def page(database: Path) -> str:
    """The documents' page of all tables of a publication: their lineage as a graph, and each with its columns."""
    with duckdb.connect(str(database), read_only=True) as connection:
        found = {table: columns for (_, table), columns in published_columns(connection).items()}
    tables = {
        table: found[table] for table in sorted(found, key=lambda name: (SCHEMAS.index(name.split(".")[0]), name))
    }
    lines = [
        "# Tables",
        "",
        "Every published table, its columns, and what it is made from. The texts are also comments of the database,",
        "which SQL clients show: `select table_name, comment from duckdb_tables()`. This page is generated:",
        "`python -m tasks.results.descriptions warehouse/music.duckdb > docs/tables.md`.",
        "",
        "```mermaid",
        "flowchart LR",
        *(f"    {above} --> {table}" for table in tables for above in _upstream(table) if above in tables),
        "```",
    ]
    for table, columns in tables.items():
        lines += ["", f"## {table}", "", of_table(table), "", "| column | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {text} |" for name, text in dict(_described(table, columns)).items()]
    return "\n".join(lines) + "\n"


def _upstream(table: str) -> list[str]:
    """The published tables that a table's SELECT reads under protocol published."""
    from tasks.features.tables import TABLES

    selects = {one.name: one.select(PROTOCOLS["published"]) for one in TABLES}
    name = table.removeprefix("results.")
    select = selects.get(table) or (
        f"results/{COMPARED_TABLES[name]}" if name in COMPARED_TABLES else table.replace(".", "/")
    )
    if not (duck.SQL_ROOT / f"{select}.sql").exists():
        return []
    return sorted(set(NAMED.findall(duck.code(select))) - {table})


def _head(file: Path) -> str:
    """The comment that a SELECT begins with, as one line."""
    lines = file.read_text(encoding="utf-8").splitlines()
    head = takewhile(lambda line: line.startswith("--"), lines)
    return " ".join(line.removeprefix("--").strip() for line in head)


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with FILE.open(encoding="utf-8", newline="") as file:
        written = tuple(csv.DictReader(file))
    metrics = ({"table": "", "column": name, "description": metric.meaning} for name, metric in METRICS.items())
    return (*written, *metrics)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Prints docs/tables.md, from a published database.")
    parser.add_argument("database", type=Path, help="the file, such as warehouse/music.duckdb")
    sys.stdout.write(page(parser.parse_args().database))

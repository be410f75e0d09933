"""Every published table and column says what it is, in the database and in docs/tables.md."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tasks.results import descriptions
from tasks.results.descriptions import of_column, of_table, page, published_columns

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tables(trained) -> dict[tuple[str, str], list[str]]:
    with duckdb.connect(str(trained.database), read_only=True) as connection:
        return published_columns(connection)


def test_every_table_and_column_is_described(tables) -> None:
    assert len(tables) > 45
    assert [table for _, table in tables if not of_table(table)] == []
    columns = [(table, column) for (_, table), columns in tables.items() for column in columns]
    assert [place for place in columns if not of_column(*place)] == []


def test_nothing_is_described_that_is_not_there(tables) -> None:
    used = {found for (_, table), columns in tables.items() for found in descriptions._described(table, columns)}
    columns = [(row["column"], row["description"]) for row in descriptions._rows() if row["column"]]
    left = [column for column in columns if column not in used]
    assert left == []


def test_sql_clients_see_the_descriptions(trained) -> None:
    with duckdb.connect(str(trained.database), read_only=True) as connection:
        told = connection.execute(
            """
            select comment from duckdb_columns()
            where schema_name = 'results' and table_name = 'cells' and column_name = 'n_train'
            """
        ).fetchall()
        [(board,)] = connection.execute(
            "select comment from duckdb_views() where schema_name = 'results' and view_name = 'leaderboard'"
        ).fetchall()
    assert told == [("Rows of split train that it was trained on; an ensemble is trained on validation rows, too.",)]
    assert board.startswith("results.leaderboards of the current catalogue")


def test_the_page_of_tables_is_not_stale(trained) -> None:
    assert (ROOT / "docs" / "tables.md").read_text(encoding="utf-8") == page(trained.database)

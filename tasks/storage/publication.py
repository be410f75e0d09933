"""Gives read access to the published database, also if the warehouse was moved or another process has it open."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from tasks.errors import UserError, is_about_room, one_line
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse, remove_database

# Finds the warehouse's address in the SELECT of a view, as it was when the view was published.
ADDRESS = re.compile(r"'((?:[^']|'')*)/(?:(?:raw|staging|features)/\w+/[0-9a-f]{16}|cells/[0-9a-f]{16}-)")


@contextmanager
def readable(warehouse: Warehouse) -> Iterator[Path]:
    """Yields the path of the published database, to be opened read-only, or of a temporary copy of it.

    A copy is needed if another process has the database open for writing, and if the warehouse was moved after the
    publication: the views of the copy name the files at their present location.

    Raises: UserError: this warehouse has no publication, or the file is damaged.
    """
    database = warehouse.database
    if not database.exists():
        raise UserError(
            f"{warehouse.location(database.name)}: not there. Run python -m flows.benchmark first, or name --warehouse."
        )
    if _is_readable(database, warehouse):
        yield database
        return
    copy = warehouse.temporary("music")
    try:
        try:
            shutil.copyfile(database, copy)
        except OSError as error:
            if not is_about_room(error):
                raise
            remove_database(copy)
            copy = Path(tempfile.gettempdir()) / copy.name  # perhaps on another disk
            shutil.copyfile(database, copy)
        _move_views(copy, warehouse)
        yield copy
    finally:
        remove_database(copy)


def _is_readable(database: Path, warehouse: Warehouse) -> bool:
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            return all(address == warehouse.address for _, address in _views(connection))
    except duckdb.IOException as error:
        if "lock" in str(error):
            return False
        raise _damaged(database, error) from error
    except duckdb.Error as error:
        raise _damaged(database, error) from error


def _damaged(database: Path, error: duckdb.Error) -> UserError:
    return UserError(
        f"{database}: cannot be read ({one_line(error)[:150]}). Publish again: python -m flows.features or "
        "flows.benchmark, with the same source."
    )


def _views(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Returns the views over files: the statement that creates each, and the warehouse address in it."""
    views = connection.execute("select sql from duckdb_views() where not internal").fetchall()
    return [(sql, found[1].replace("''", "'")) for (sql,) in views if (found := ADDRESS.search(sql))]


def _move_views(copy: Path, warehouse: Warehouse) -> None:
    """Recreates the views of a database with the present address of the warehouse."""
    try:
        with duckdb.connect(str(copy)) as connection:
            warehouse.let_read(connection)
            for sql, address in _views(connection):
                moved = sql.replace(duck.literal(f"{address}/")[:-1], duck.literal(f"{warehouse.address}/")[:-1])
                with suppress(duckdb.Error):  # a file is missing: querying the view reports it
                    connection.execute(re.sub(r"^create view", "create or replace view", moved, flags=re.IGNORECASE))
            connection.execute("checkpoint")
    except duckdb.Error as error:
        raise _damaged(copy, error) from error

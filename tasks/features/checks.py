"""Runs the checks of the feature tables (sql/checks/). Each check is a SELECT that must return no rows.

A process does not repeat a check that passed for the same versions of the tables. So a command that prepares features
before the flow checks them once. Other processes repeat it, so a nightly run checks the tables that it reuses.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from tasks.errors import CheckError
from tasks.specs import Protocol
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

Versions = Mapping[str, str]  # of the tables of one build, by table name
HELD: set[str] = set()  # digests of a check that passed in this process, its warehouse and the tables' versions


def of(protocol: Protocol) -> list[str]:
    """Returns the paths, below sql/, of a protocol's checks."""
    return [f"checks/{name}" for name in protocol.checks]


def due(protocol: Protocol, versions: Versions, warehouse: Warehouse) -> list[str]:
    """Returns the checks that have not passed yet for tables of these versions."""
    return [name for name in of(protocol) if _digest(name, versions, warehouse) not in HELD]


def run(
    name: str, protocol: Protocol, versions: Versions, warehouse: Warehouse, connection: duckdb.DuckDBPyConnection
) -> None:
    """Runs `sql/<name>.sql` on the tables that `connection` sees. Raises: CheckError: the check returned rows."""
    found = connection.execute(f"from ({duck.render(name, **duck.dynamic_columns(name, connection))}) limit 3")
    columns = [column[0] for column in found.description]
    if rows := found.fetchall():
        examples = "; ".join(
            ", ".join(f"{column} {value}" for column, value in zip(columns, row, strict=True)) for row in rows
        )
        raise CheckError(f"The tables of protocol {protocol.name} break the rule of sql/{name}.sql: {examples}.")
    HELD.add(_digest(name, versions, warehouse))


def _digest(name: str, versions: Versions, warehouse: Warehouse) -> str:
    return duck.digest(warehouse.address, name, duck.code(name), sorted(versions.items()))

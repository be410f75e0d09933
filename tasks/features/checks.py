"""The rules of the feature tables (sql/checks/): each a SELECT that must return no rows.

A rule that held for tables of these versions is not tried again by the same process, so that a command that prepares
features ahead of its flow checks them once. Another process does: what a nightly run reuses is checked every night.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from tasks.errors import CheckError
from tasks.specs import Protocol
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

Versions = Mapping[str, str]  # of the tables of one build, by name
HELD: set[str] = set()  # in this process: digests of a rule, the warehouse, and the versions of the tables


def of(protocol: Protocol) -> list[str]:
    """The SELECTs below sql/ that must return no rows."""
    return [f"checks/{name}" for name in protocol.checks]


def due(protocol: Protocol, versions: Versions, warehouse: Warehouse) -> list[str]:
    """Those that have not yet held for tables of these versions."""
    return [name for name in of(protocol) if _digest(name, versions, warehouse) not in HELD]


def run(
    name: str, protocol: Protocol, versions: Versions, warehouse: Warehouse, connection: duckdb.DuckDBPyConnection
) -> None:
    """Run `sql/<name>.sql` on the tables that `connection` sees. Raises: CheckError: it found rows."""
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

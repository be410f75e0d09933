"""Reads and writes features.registry, which records the tables that were built, their upstream and their files."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from tasks.storage.damage import read_rows
from tasks.storage.warehouse import Warehouse

REGISTRY = pa.schema(
    [
        pa.field("table_name", pa.string(), nullable=False),
        pa.field("protocol", pa.string()),
        pa.field("version", pa.string(), nullable=False),
        pa.field("snapshot", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),  # below the warehouse's root: a file, or a folder of files
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("built_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("build_seconds", pa.float64(), nullable=False),
        pa.field("upstream", pa.list_(pa.string())),  # versions of its upstream tables; NULL in old registries
    ]
)


@dataclass(frozen=True, slots=True)
class BuiltTable:
    """One row of features.registry, and whether the table was reused or made by this build."""

    table_name: str
    protocol: str | None
    version: str
    snapshot: str
    path: str
    rows: int
    built_at: datetime
    build_seconds: float
    reused: bool
    upstream: tuple[str, ...] | None = None


def read_registry(warehouse: Warehouse) -> list[BuiltTable]:
    """Returns every table that was built and not removed since, the oldest first."""
    rows = read_rows(warehouse.files("features", "registry"), REGISTRY, warehouse).to_pylist()
    # Each row once: a compaction that was killed leaves rows twice.
    found = {(row["table_name"], row["version"], row["built_at"]): row for row in rows}
    built = [
        BuiltTable(**row | {"upstream": None if row.get("upstream") is None else tuple(row["upstream"])}, reused=True)
        for row in found.values()
    ]
    return sorted(built, key=lambda row: row.built_at)


def compact_registry(rows: list[BuiltTable], warehouse: Warehouse) -> None:
    """Replaces the registry's files by one file of `rows`. If it is killed in between, the registry keeps all rows."""
    with warehouse.lock("features"):
        replaced = warehouse.files("features", "registry")
        register(rows, warehouse)
        for file in replaced:
            warehouse.discard(file)


def register(rows: list[BuiltTable], warehouse: Warehouse) -> None:
    """Records tables that were built. Tables that are not recorded do not count as stored."""
    if rows:
        entries = [{name: getattr(row, name) for name in REGISTRY.names} for row in rows]
        warehouse.write_rows(warehouse.table("features", "registry", uuid.uuid4().hex), entries, REGISTRY)

"""Open tables: the published results as Parquet files for any engine, and a manifest that names the files.

Each publication has a folder below `published/`. `manifest.json` names the newest one and is replaced atomically, so a
reader who has read the manifest sees one publication, whatever is published meanwhile. Tables that are stored as
Parquet anyway (features, predictions) are not copied: the manifest names the stored files. All paths are relative to
the warehouse. A publication's files are removed 12 hours after a newer one has replaced it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.features.registry import BuiltTable
from tasks.specs import GRACE_HOURS
from tasks.storage import checksums, duck
from tasks.storage.warehouse import MANIFEST, Warehouse, flush

GRACE = timedelta(hours=GRACE_HOURS)
STAMP = "%Y%m%dT%H%M%S%f"
# results.ceiling reads every track. The predictions are cells.predictions, which the manifest has, with cell names.
LEFT_OUT = ("ceiling", "predictions", "fold_predictions", "no_predictions")
FILES = pa.schema(
    [
        pa.field("table_name", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
    ]
)
FileRow = dict[str, object]  # a row of FILES


def new_publication() -> str:
    """Returns a unique name for a publication; names sort by time."""
    return f"{datetime.now(UTC):{STAMP}}-{secrets.token_hex(3)}"


def folder_of(publication: str, warehouse: Warehouse) -> Path:
    """Returns the folder of a publication's own files."""
    return warehouse.root / "published" / publication


def export(connection: duckdb.DuckDBPyConnection, folder: Path, publication: str) -> list[FileRow]:
    """Writes each table and view of schema results as a Parquet file. Args: folder: an empty folder."""
    found = connection.execute(
        "select table_name from information_schema.tables where table_schema = 'results' order by table_name"
    ).fetchall()
    files: list[FileRow] = []
    for (name,) in found:
        if name not in LEFT_OUT:
            copied = f"copy (from results.{name}) to $path (format parquet, compression zstd)"
            [(rows,)] = connection.execute(copied, {"path": str(folder / f"{name}.parquet")}).fetchall()
            files.append(
                {"table_name": f"results.{name}", "path": f"published/{publication}/{name}.parquet", "rows": rows}
            )
    return files


def stored(
    features: Iterable[BuiltTable], predictions: Iterable[tuple[str, int]], warehouse: Warehouse
) -> list[FileRow]:
    """Returns the tables that are stored as Parquet anyway.

    Args: predictions: each cell's result, and how many rows it predicted.
    """
    built = {row.path: row for row in features}.values()
    return [
        *(file for row in built for file in _files(row, warehouse)),
        *(
            {"table_name": "cells.predictions", "path": f"cells/{result}/predictions.parquet", "rows": rows}
            for result, rows in predictions
        ),
    ]


def _files(row: BuiltTable, warehouse: Warehouse) -> list[FileRow]:
    """Returns a table's file, or its files if it is a folder (tasks/features/append.py)."""
    return [
        {
            "table_name": row.table_name,
            "path": part.relative_to(warehouse.root).as_posix(),
            "rows": pq.read_metadata(part).num_rows,
        }
        for part in warehouse.parts(row.path)
    ]


def register(
    connection: duckdb.DuckDBPyConnection, files: list[FileRow], folder: Path, publication: str
) -> list[FileRow]:
    """Creates results.registry with one row per file, including its own. Returns: these rows."""
    path = f"published/{publication}/registry.parquet"
    listed = [*files, {"table_name": "results.registry", "path": path, "rows": len(files) + 1}]
    connection.register("listed", pa.Table.from_pylist(listed, schema=FILES))
    connection.execute("create table results.registry as from listed order by table_name, path")
    connection.unregister("listed")
    connection.execute(f"copy results.registry to {duck.literal(folder / 'registry.parquet')} (format parquet)")
    return listed


@contextmanager
def naming(publication: str, files: list[FileRow], database: Path, warehouse: Warehouse) -> Iterator[None]:
    """Swaps in the manifest of a publication if the block succeeds; from then on readers see this publication.

    The manifest is written before the block begins, so that nothing is swapped in if the disk has no room for it.

    Args: database: current path of the published file.
    """
    tables: dict[str, dict[str, object]] = {}
    for file in sorted(files, key=lambda file: (str(file["table_name"]), str(file["path"]))):
        table = tables.setdefault(str(file["table_name"]), {"rows": 0, "files": []})
        table["rows"] += file["rows"]  # type: ignore[operator]
        table["files"].append(file["path"])  # type: ignore[attr-defined]
    manifest = {
        "publication": publication,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "database": f"published/{publication}/music.duckdb" if warehouse.is_remote else "music.duckdb",
        "database_sha256": checksums.digest_of(database),
        "tables": tables,
    }
    manifest["digest"] = digest_of_manifest(manifest)
    with warehouse.replacing(warehouse.root / MANIFEST, is_rewritten=True) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        flush(temporary)
        yield


def digest_of_manifest(manifest: Mapping[str, object]) -> str:
    """Returns the digest that a manifest has of itself, which shows whether it was altered."""
    return duck.digest(json.dumps({name: manifest[name] for name in manifest if name != "digest"}, sort_keys=True))


def superseded(publications: Iterable[str], newest: str, now: datetime, grace: timedelta) -> list[str]:
    """Returns the publications that a newer one replaced longer ago than `grace`, oldest first."""
    latest = f"{now - grace:{STAMP}}~"
    stamped = sorted(name for name in publications if name <= newest)
    return [name for name, successor in pairwise(stamped) if successor <= latest]


def remove_superseded(newest: str, warehouse: Warehouse, grace: timedelta = GRACE) -> None:
    """Removes the files of publications that a newer one replaced longer ago than `grace`."""
    for name in superseded(warehouse.folders("published"), newest, datetime.now(UTC), grace):
        warehouse.discard(folder_of(name, warehouse))

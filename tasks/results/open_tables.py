"""The published results as open tables: plain Parquet for any engine, and a manifest that names the files.

Each publication has a folder of its own below `published/`; `manifest.json`, which is swapped whole, names the newest.
So a reader who has read the manifest once sees one publication, whatever is published meanwhile. Tables that are kept
as Parquet anyway (features, predictions) are named where they are. All paths are below the warehouse. A publication's
files go when another has stood in its place for 12 hours.
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
from tasks.storage import checksums, duck
from tasks.storage.warehouse import MANIFEST, Warehouse, flush

# results.ceiling reads every track; results.predictions adds the cells' names to cells.predictions, which is named.
GRACE = timedelta(hours=12)  # for readers of an older publication
STAMP = "%Y%m%dT%H%M%S%f"
LEFT_OUT = ("ceiling", "predictions", "no_predictions")
FILES = pa.schema(
    [
        pa.field("table_name", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
    ]
)
File = dict[str, object]  # a row of FILES


def new_publication() -> str:
    """A name that no other publication has; later ones sort after it."""
    return f"{datetime.now(UTC):{STAMP}}-{secrets.token_hex(3)}"


def folder_of(publication: str, warehouse: Warehouse) -> Path:
    """Where a publication's own files are."""
    return warehouse.root / "published" / publication


def export(connection: duckdb.DuckDBPyConnection, folder: Path, publication: str) -> list[File]:
    """Write every table and view of schema results, a Parquet file each. Args: folder: where; empty."""
    found = connection.execute(
        "select table_name from information_schema.tables where table_schema = 'results' order by table_name"
    ).fetchall()
    files: list[File] = []
    for (name,) in found:
        if name not in LEFT_OUT:
            copied = f"copy (from results.{name}) to $path (format parquet, compression zstd)"
            [(rows,)] = connection.execute(copied, {"path": str(folder / f"{name}.parquet")}).fetchall()
            files.append(
                {"table_name": f"results.{name}", "path": f"published/{publication}/{name}.parquet", "rows": rows}
            )
    return files


def stored(features: Iterable[BuiltTable], predictions: Iterable[tuple[str, int]], warehouse: Warehouse) -> list[File]:
    """What is kept as Parquet anyway. Args: predictions: each cell's result, and how many rows it predicted."""
    built = {row.path: row for row in features}.values()
    return [
        *(file for row in built for file in _files(row, warehouse)),
        *(
            {"table_name": "cells.predictions", "path": f"cells/{result}/predictions.parquet", "rows": rows}
            for result, rows in predictions
        ),
    ]


def _files(row: BuiltTable, warehouse: Warehouse) -> list[File]:
    """A table's file, or those of the folder that it is (tasks/features/append.py)."""
    return [
        {
            "table_name": row.table_name,
            "path": part.relative_to(warehouse.root).as_posix(),
            "rows": pq.read_metadata(part).num_rows,
        }
        for part in warehouse.parts(row.path)
    ]


def register(connection: duckdb.DuckDBPyConnection, files: list[File], folder: Path, publication: str) -> list[File]:
    """Make results.registry: one row per file, of itself, too. Returns: them."""
    path = f"published/{publication}/registry.parquet"
    listed = [*files, {"table_name": "results.registry", "path": path, "rows": len(files) + 1}]
    connection.register("listed", pa.Table.from_pylist(listed, schema=FILES))
    connection.execute("create table results.registry as from listed order by table_name, path")
    connection.unregister("listed")
    connection.execute(f"copy results.registry to {duck.literal(folder / 'registry.parquet')} (format parquet)")
    return listed


@contextmanager
def naming(publication: str, files: list[File], database: Path, warehouse: Warehouse) -> Iterator[None]:
    """Swap in the manifest once the block has ended well: from then on this is what is published.

    It is written before the block begins, so that nothing is swapped in where there is no room for it.
    Args: database: the file that is published, where it is now.
    """
    tables: dict[str, dict[str, object]] = {}
    for file in sorted(files, key=lambda file: (str(file["table_name"]), str(file["path"]))):
        table = tables.setdefault(str(file["table_name"]), {"rows": 0, "files": []})
        table["rows"] += file["rows"]  # type: ignore[operator]
        table["files"].append(file["path"])  # type: ignore[attr-defined]
    manifest = {
        "publication": publication,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "database": f"published/{publication}/music.duckdb" if warehouse.store else "music.duckdb",
        "database_sha256": checksums.digest_of(database),
        "tables": tables,
    }
    manifest["digest"] = digest_of_manifest(manifest)
    with warehouse.replacing(warehouse.root / MANIFEST, is_rewritten=True) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        flush(temporary)
        yield


def digest_of_manifest(manifest: Mapping[str, object]) -> str:
    """What a manifest keeps of itself as `digest`, by which an altered one is recognised."""
    return duck.digest(json.dumps({name: manifest[name] for name in manifest if name != "digest"}, sort_keys=True))


def superseded(publications: Iterable[str], newest: str, now: datetime, grace: timedelta) -> list[str]:
    """Those that another took the place of longer ago than `grace`, oldest first."""
    latest = f"{now - grace:{STAMP}}~"
    stamped = sorted(name for name in publications if name <= newest)
    return [name for name, successor in pairwise(stamped) if successor <= latest]


def remove_superseded(newest: str, warehouse: Warehouse, grace: timedelta = GRACE) -> None:
    """Remove the files of publications that another took the place of longer ago than `grace`."""
    for name in superseded(warehouse.folders("published"), newest, datetime.now(UTC), grace):
        warehouse.discard(folder_of(name, warehouse))

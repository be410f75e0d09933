"""The inventory of a warehouse for upkeep: runs, feature versions, files with their sizes, and publications."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa

from tasks.features.registry import BuiltTable, read_registry
from tasks.ingest.sample import sample_path
from tasks.ingest.snapshots import SNAPSHOT
from tasks.ingest.source_names import SAMPLE, SAMPLE_ROWS
from tasks.prediction import champions
from tasks.storage import checksums
from tasks.storage.damage import read_rows
from tasks.storage.folder_store import is_gone
from tasks.storage.object_store import Store
from tasks.storage.publication import readable
from tasks.storage.warehouse import OWNER, Warehouse
from tasks.training import runs
from tasks.training.catalogues import Catalogues, asked
from tasks.training.tuning import TRIALS

Kind = Literal[
    "run", "snapshot", "feature version", "cell", "sample", "publication", "comparison", "orphan", "temporary"
]
FOREIGN = timedelta(days=7)  # work of another machine counts as in progress for so long if its state is unknown
VERSIONED = r"(?:raw|staging|features)/\w+/[0-9a-f]{16}\.parquet"  # a file, or a folder of parts
RUN = r"\d{8}T\d{6}-[0-9a-f]{6}"  # a run id
CELL = rf"cells/[0-9a-f]{{16}}-{RUN}"  # <key>-<run id>
COMPARISON = rf"reports/{RUN}-against-{RUN}\.html"  # a page of two runs
SAMPLE_FILE = r"sample/sample-\d+-\d+-[0-9a-f]{16}\.csv"
OURS = re.compile(rf"({VERSIONED}|{CELL}|{SAMPLE_FILE}|{COMPARISON})(?:/.*|\.sha256)?")
PUBLISHED = re.compile(r"published/(\d{8}T\d{12}-[0-9a-f]{6})(?:/.*|\.sha256)")
SPILL = re.compile(r"duckdb_temp_.+")  # left by DuckDB when it is killed
NAMED = re.compile(rf"/({VERSIONED}|{CELL})")
# The key of a result, as in results.newest, of a point of a learning curve, and of a fold.
CELL_OF = (
    "staging_version", "budget", "protocol", "task", "model", "feature_set", "seed", "train_rows", "fold", "folds",
    "fold_seed", "catalogue",
)  # fmt: skip
RETIRED = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # relative to the warehouse's root
        pa.field("since", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run's records, and the files that its results come from."""

    run_id: str
    started_at: datetime
    status: str  # as in results.runs
    snapshot: str
    is_current: bool = True  # whether it is of the current catalogue
    has_asked: bool = False  # that its catalogue become the current one
    is_generated: bool = False
    sample: str | None = None  # path of the generated file that it read
    results: frozenset[str] = frozenset()  # the cells that it reports, even if another run trained them
    versions: frozenset[str] = frozenset()  # versions of the tables that its cells were trained on
    shown: frozenset[tuple[str, ...]] = frozenset()  # CELL_OF of each successful cell; all have the same tracks


@dataclass(frozen=True, slots=True)
class Item:
    """Something that upkeep may remove: a file, or a cell's folder with its contents."""

    kind: Kind
    size: int  # bytes; of a file with several hard links its share


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The contents of a warehouse; paths are relative to its root, and files of unknown names are not listed."""

    now: datetime
    runs: tuple[StoredRun, ...] = ()
    registry: tuple[BuiltTable, ...] = ()
    items: Mapping[str, Item] = field(default_factory=dict)
    records: Mapping[str, int] = field(default_factory=dict)  # bytes of a run's records, by run_id
    published: frozenset[str] = frozenset()  # paths that the views of music.duckdb name
    publications: Mapping[str, int] = field(default_factory=dict)  # bytes of the open tables, by publication
    newest: str | None = None  # the publication that the manifest names
    searched: frozenset[str] = frozenset()  # feature versions of searches for settings
    predicting: Mapping[str, str] = field(
        default_factory=dict
    )  # champions' cells and folds, and the champion's feature version
    bases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # appended snapshot -> snapshots it includes
    retired: Mapping[str, datetime] = field(default_factory=dict)  # path -> since when no upkeep has needed it

    @property
    def shown_snapshots(self) -> frozenset[str]:
        """The snapshots that the views of music.duckdb show, except bases of another one; in practice one snapshot."""
        found = {path.split("/")[-1].removesuffix(".parquet") for path in self.published if path.startswith("raw/")}
        return frozenset(found.difference(*(self.bases.get(snapshot, ()) for snapshot in found)))


def take_inventory(warehouse: Warehouse) -> Inventory:
    """Reads the current contents of a warehouse."""
    now = datetime.now(UTC)
    registry = tuple(read_registry(warehouse))
    stored = warehouse.sizes()
    return Inventory(
        now=now,
        runs=tuple(_runs(warehouse, now, warehouse.users())),
        registry=registry,
        items=_items(stored, {row.path for row in registry}) | dict(_left_over(warehouse, now)),
        records={
            file.stem: sum(
                stored.get(f"{_below(record, warehouse)}{end}", 0)
                for record in record_files(file.stem, warehouse)
                for end in ("", checksums.SUFFIX)
            )
            for name in ("started", "finished")
            for file in warehouse.files("runs", name)
        },
        published=published_paths(warehouse),
        publications=_sums(stored, PUBLISHED),
        newest=(warehouse.manifest() or {}).get("publication"),
        searched=frozenset(
            row["feature_version"] for row in _rows(warehouse.files("tuning", "trials"), TRIALS, warehouse)
        ),
        predicting={
            result: one.candidate.feature_version
            for one in champions.current(warehouse)
            for result in (one.candidate.result, *one.candidate.folds)
        },
        bases={
            row["snapshot"]: tuple(row["parts"][:-1])
            for row in _rows(warehouse.files("raw", "snapshots"), SNAPSHOT, warehouse)
            if row["parts"]
        },
        retired={
            row["path"]: row["since"] for row in _rows(warehouse.files("upkeep", "retired")[-1:], RETIRED, warehouse)
        },
    )


def published_paths(warehouse: Warehouse) -> frozenset[str]:
    """Returns the paths that the views of music.duckdb read (of cells the folders), relative to the warehouse."""
    if not warehouse.database.exists():
        return frozenset()
    with readable(warehouse) as database, duckdb.connect(str(database), read_only=True) as connection:
        views = connection.execute("select sql from duckdb_views() where not internal").fetchall()
    return frozenset(path for (sql,) in views for path in NAMED.findall(sql))


def record_files(run_id: str, warehouse: Warehouse) -> list[Path]:
    """Returns a run's records in the order of removal: a run without its start record does not count any more."""
    started, finished = (warehouse.table("runs", name, run_id) for name in ("started", "finished"))
    return [started, warehouse.report(run_id), finished]


def snapshot_paths(snapshot: str) -> list[str]:
    """Returns the paths of a snapshot: first its record, without which the others do not count, then its tables."""
    tables = ("raw/snapshots", "raw/rejects", "raw/tracks", "staging/typed_tracks")
    return [f"{table}/{snapshot}.parquet" for table in tables]


def size_of(path: Path) -> int:
    """Returns the bytes of a file or folder, hard links counted once; 0 if it is gone."""
    return sum(size for _, _, size in set(links_of(path).values()))


def links_of(path: Path) -> dict[Path, tuple[int, int, int]]:
    """Returns inode, number of hard links and bytes of a file, or of each file below a folder."""
    found = {}
    for file in _files_below(path) if path.is_dir() and not path.is_symlink() else [path]:
        with suppress(FileNotFoundError):
            status = file.lstat()
            found[file] = (status.st_ino, status.st_nlink, status.st_size)
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    """Yields all files below a folder; folders that are removed meanwhile are skipped."""
    return (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def freed_by(files: Mapping[Path, tuple[int, int, int]]) -> int:
    """Returns the bytes that the removal of files frees: hard links count if all of them are removed."""
    names = Counter(files.values())
    return sum(size for (_, n_names, size), n_gone in names.items() if n_gone >= n_names)


def _runs(warehouse: Warehouse, now: datetime, users: set[tuple[str, int]] | None) -> Iterator[StoredRun]:
    catalogues = Catalogues.of(warehouse)
    ended = {row["run_id"]: row for row in _rows(warehouse.files("runs", "finished"), runs.FINISHED, warehouse)}
    for row in _rows(warehouse.files("runs", "started"), runs.STARTED, warehouse):
        finished = ended.get(row["run_id"])
        catalogue = catalogues.of_record(row)
        cells = [cell | {"catalogue": catalogue} for cell in finished["cells"]] if finished else []
        sample = SAMPLE.fullmatch(row["source"]) if row["is_generated"] else None
        yield StoredRun(
            run_id=row["run_id"],
            started_at=row["started_at"],
            status=finished["status"] if finished else "running" if _is_running(row, now, users) else "killed",
            snapshot=row["snapshot"],
            is_current=catalogue == catalogues.current,
            has_asked=asked(row),
            is_generated=row["is_generated"],
            sample=sample and _below(sample_path(warehouse, int(sample[1] or SAMPLE_ROWS)), warehouse),
            results=frozenset(cell["result"] for cell in cells if cell["result"]),
            versions=frozenset(cell[name] for cell in cells for name in ("feature_version", "staging_version")),
            shown=frozenset(tuple(str(cell.get(name)) for name in CELL_OF) for cell in cells if cell["status"] == "ok"),
        )


def _is_running(row: dict[str, Any], now: datetime, users: set[tuple[str, int]] | None) -> bool:
    if row["host"] == socket.gethostname():
        return runs.is_alive(row["host"], row["pid"], row["pid_started"])
    if users is None:
        return bool(now - row["started_at"] < FOREIGN)
    return (row["host"], row["pid"]) in users


def _items(stored: Mapping[str, int], registered: set[str]) -> dict[str, Item]:
    snapshots = {path.split("/")[-1] for path in stored if path.startswith("raw/snapshots/")}

    def kind(path: str) -> Kind:
        schema, *table, name = path.split("/")
        if schema == "cells":
            return "cell"
        if schema == "reports":
            return "comparison"
        if schema == "sample":
            return "sample"
        if schema == "raw" or table == ["typed_tracks"]:
            return "snapshot" if name in snapshots else "orphan"
        return "feature version" if path in registered else "orphan"

    return {path: Item(kind(path), size) for path, size in _sums(stored, OURS).items()}


def _sums(stored: Mapping[str, int], pattern: re.Pattern[str]) -> dict[str, int]:
    """Returns the total bytes of files by the first group of `pattern`; files that do not match are left out."""
    sums: dict[str, int] = {}
    for path, size in stored.items():
        if found := pattern.fullmatch(path):
            sums[found[1]] = sums.get(found[1], 0) + size
    return sums


def _left_over(warehouse: Warehouse, now: datetime) -> Iterator[tuple[str, Item]]:
    """Yields leftovers of killed writers; of a remote warehouse its interrupted uploads."""
    if isinstance(warehouse.store, Store):
        for name, since, size in warehouse.store.interrupted():
            if now - since > FOREIGN:
                yield name, Item("temporary", size)
        return
    for file in (warehouse.root / "tmp").iterdir():
        if _is_left_over(file, now):
            yield _below(file, warehouse), Item("temporary", size_of(file))


def _is_left_over(file: Path, now: datetime) -> bool:
    """Returns whether a temporary file was left by a process that is gone."""
    owner = OWNER.search(file.name)
    if owner and owner["host"] == socket.gethostname():
        return is_gone(owner)
    try:
        is_old = now.timestamp() - file.lstat().st_mtime > FOREIGN.total_seconds()
    except FileNotFoundError:
        return False
    return is_old and bool(owner or SPILL.fullmatch(file.name))


def _rows(files: list[Path], schema: pa.Schema, warehouse: Warehouse) -> list[dict[str, Any]]:
    return read_rows(files, schema, warehouse).to_pylist()


def _below(path: Path, warehouse: Warehouse) -> str:
    return str(path.relative_to(warehouse.root))

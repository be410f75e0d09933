"""The integrity check: reads every stored file of a warehouse and compares it with its checksum.

Files without a checksum, from before there were any, are only read through, which finds most changes, not all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.compute.progress import counted_progress
from tasks.features.registry import read_registry
from tasks.ingest.snapshots import stored_snapshots
from tasks.results.open_tables import digest_of_manifest
from tasks.storage import checksums, damage, duck
from tasks.storage.damage import TABLES_OF_CELL, read_rows
from tasks.storage.warehouse import LAST_OF_CELL, MANIFEST, Warehouse
from tasks.training import runs
from tasks.training.cell_files import RESULT

# No checksum is kept of files that are written again and again, are set aside already, or are being written.
UNRECORDED = re.compile(r"manifest\.json|music\.duckdb|about\.txt|(reports|tuning|tmp|use|damaged)/.*|.*\.sha256")
RECORDED_HERE = ("tuning/trials/",)
BATCH_ROWS = 65_536
PUBLISH_AGAIN = "publish again (any run does)"


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """A stored file that is missing or damaged."""

    path: str  # relative to the warehouse's root
    what: str  # missing, cut off, altered, ...


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of a check."""

    faults: list[Fault]
    files: int  # files that were read
    size: int  # bytes that were read
    without_checksum: int  # files that were read and have no checksum


def check(warehouse: Warehouse, *, dry_run: bool = False) -> Findings:
    """Reads every stored file, and looks for every file that records, registry and manifest name.

    Truncated and altered files are set aside, so that the next run makes them again. Flows may go on meanwhile: what
    they store during the check is not missing.

    Args: dry_run: set nothing aside.
    """
    # Without a manifest the newest publication is checked.
    newest = (warehouse.manifest() or {}).get("publication") or max(warehouse.folders("published"), default=None)

    def is_looked_at(path: str) -> bool:
        """Returns whether a path is checked; of the publications only the newest one is."""
        return not path.startswith("published/") or path.startswith(f"published/{newest}/")

    kept = {path: digest for path, digest in _kept(warehouse).items() if is_looked_at(path)}
    sizes = {path: size for path, size in warehouse.sizes().items() if _is_recorded(path) and is_looked_at(path)}
    found: dict[str, str] = {}
    with counted_progress("files", len(sizes)) as show:
        for number, path in enumerate(sorted(sizes), start=1):
            if fault := _fault_of(path, kept.get(path), warehouse):
                found[path] = fault
            show(number)
    found |= {path: "missing" for path in kept if path not in sizes}
    damaged = dict(found)
    sound = _Sound(warehouse.root, warehouse.store, frozenset(damaged))
    for path in _named(sound):
        if not _is_in(path, sizes):
            found.setdefault(path, "missing")
    if "missing" in found.values():
        now = warehouse.sizes()
        stored = {path for path, fault in found.items() if fault == "missing" and _is_in(path, now)}
        found = {path: fault for path, fault in found.items() if path not in stored}
        damaged = {path: fault for path, fault in damaged.items() if path not in stored}
    found |= _faults_of_publication(warehouse)
    if not dry_run:
        for path, fault in damaged.items():
            _set_aside(path, fault, warehouse)
    return Findings(
        faults=sorted(Fault(path, what) for path, what in found.items()),
        files=len(sizes),
        size=sum(sizes.values()),
        without_checksum=len(set(sizes) - set(kept)),
    )


@dataclass(frozen=True, slots=True)
class _Sound(Warehouse):
    """A warehouse that lists only sound files. Args: damaged: paths of the other files."""

    damaged: frozenset[str] = frozenset()

    def files(self, schema: str, name: str) -> list[Path]:
        """Returns a table's files that are not damaged."""
        listed = Warehouse.files(self, schema, name)
        return [file for file in listed if file.relative_to(self.root).as_posix() not in self.damaged]


def _is_in(path: str, sizes: Mapping[str, int]) -> bool:
    """Returns whether a file, or a folder with a file in it, is among the stored files."""
    return path in sizes or any(stored.startswith(f"{path}/") for stored in sizes)


def _set_aside(path: str, fault: str, warehouse: Warehouse) -> None:
    """Sets a damaged file aside so that the next run makes it again; of a missing file only the checksum is left."""
    file = warehouse.root / path
    if fault != "missing" or path.startswith("cells/"):
        damage.set_aside(file, fault, warehouse)
    elif not path.startswith("published/"):
        warehouse.discard(file)


def _is_recorded(path: str) -> bool:
    return path.startswith(RECORDED_HERE) or not UNRECORDED.fullmatch(path)


def _kept(warehouse: Warehouse) -> dict[str, str]:
    """Returns the stored SHA-256 of each file, by its path."""
    kept: dict[str, str] = {}
    for beside in warehouse.sizes():
        if beside.endswith(checksums.SUFFIX) and not beside.startswith((f"{damage.FOLDER}/", "tmp/")):
            folder = beside.rpartition("/")[0]
            digests = warehouse.digests_kept(warehouse.root / beside.removesuffix(checksums.SUFFIX))
            kept |= {f"{folder}/{name}": digest for name, digest in digests.items()}
    return kept


def _fault_of(path: str, digest: str | None, warehouse: Warehouse) -> str | None:
    is_table = path.endswith(".parquet")
    try:
        if digest:
            is_same = warehouse.store.digest(path) == digest
            if is_same:
                return None
            fault = checksums.fault_of(warehouse.here(path)) if is_table else None
            return fault.removeprefix("is ") if fault else "altered"
        return _unreadable(warehouse.here(path)) if is_table else None
    except FileNotFoundError:  # removed meanwhile by upkeep or another process
        return None


def _unreadable(file: Path) -> str | None:
    if fault := checksums.fault_of(file):
        return fault.removeprefix("is ")
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as table:
            for _ in table.iter_batches(BATCH_ROWS):
                pass
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        return "altered"
    return None


def _damaged_cells(warehouse: _Sound) -> set[str]:
    return {path.split("/")[1] for path in warehouse.damaged if path.startswith("cells/")}


def _named(warehouse: _Sound) -> Iterator[str]:
    """Yields the paths that records and registry name, and that must exist."""
    for snapshot in stored_snapshots(warehouse).values():
        for part in snapshot.parts:
            yield from (f"raw/{name}/{part}.parquet" for name in ("snapshots", "tracks", "rejects"))
            yield f"staging/typed_tracks/{part}.parquet"
    yield from (row.path for row in read_registry(warehouse))
    started = {file.stem for file in warehouse.files("runs", "started")}
    finished = read_rows(warehouse.files("runs", "finished"), runs.FINISHED, warehouse).to_pylist()
    for run in finished:
        if run["run_id"] not in started:
            yield f"runs/started/{run['run_id']}.parquet"
        for cell in run["cells"]:
            # A result that was set aside and trained again is not missing.
            if cell["result"] and (cell["result"] in (stored := warehouse.results(cell["cell_key"])) or not stored):
                yield from (f"cells/{cell['result']}/{name}" for name in TABLES_OF_CELL)
    results = {cell["result"] for run in finished for cell in run["cells"] if cell["result"]}
    files = [
        warehouse.here(warehouse.cell(result) / LAST_OF_CELL) for result in sorted(results - _damaged_cells(warehouse))
    ]
    for row in read_rows(files, pa.schema([RESULT.field("model_path")]), warehouse).to_pylist():
        if row["model_path"]:
            yield row["model_path"]


def _faults_of_publication(warehouse: Warehouse) -> dict[str, str]:
    """Returns the faults of the manifest, of the files it names and of the database, by path."""
    manifest = warehouse.manifest()
    if manifest is None:
        if warehouse.store.read(MANIFEST) is not None:
            return {MANIFEST: f"altered: {PUBLISH_AGAIN}"}
        has_published = warehouse.folders("published") or warehouse.files("runs", "finished")
        return {MANIFEST: f"missing: {PUBLISH_AGAIN}"} if has_published else {}
    found = {
        path: "missing"
        for table in manifest["tables"].values()
        for path in table["files"]
        if not path.startswith("cells/") and not _is_stored(path, warehouse)
    }
    if manifest.get("digest") not in {None, digest_of_manifest(manifest)}:
        found[MANIFEST] = f"altered: {PUBLISH_AGAIN}"
    database = manifest["database"]
    if not _is_stored(database, warehouse):
        return found | {database: "missing"}
    local = warehouse.here(database)
    digest = manifest.get("database_sha256")
    if digest and checksums.digest_of(local) != digest:
        return found | {database: "altered, or not what the manifest names: " + PUBLISH_AGAIN}
    try:
        with duckdb.connect(str(local), read_only=True) as connection:
            duck.contents(connection)
    except duckdb.Error:
        found[database] = f"altered: {PUBLISH_AGAIN}"
    return found


def _is_stored(path: str, warehouse: Warehouse) -> bool:
    return warehouse.here(path).exists()

"""Handling of damaged stored files: each is logged, moved below `damaged/`, and left out.

Nothing reads `damaged/`. A table or cell that can be made again is made when it is needed. A file that cannot be read
for another reason (no permission, too many open files) is not damaged: that is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.storage import checksums
from tasks.storage.warehouse import LAST_OF_CELL, Warehouse, remove

FOLDER = "damaged"
TABLES_OF_CELL = (LAST_OF_CELL, "replicates.parquet", "predictions.parquet")
LOG = logging.getLogger(__name__)  # to Prefect's console in a flow, else to standard error


def read_rows(files: Iterable[Path], schema: pa.Schema, warehouse: Warehouse) -> pa.Table:
    """Returns the rows of stored files; damaged files are set aside, and missing ones are skipped.

    Args: schema: the columns to read; a column that an older file lacks is NULL.
    """
    tables = [schema.empty_table()]
    for file in files:
        try:
            tables.append(pq.read_table(file, schema=schema))
        except FileNotFoundError:
            continue
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            set_aside(file, checksums.fault_of(file) or "is altered", warehouse)
    return pa.concat_tables(tables)


def is_whole(path: Path, warehouse: Warehouse) -> bool:
    """Whether a stored Parquet table exists and is complete; a damaged one is set aside.

    Args: path: a file or a folder of files; from a remote warehouse it is fetched.
    """
    fault = checksums.fault_of(warehouse.here(path))
    if path.is_dir():
        lost = [name for name in warehouse.digests_kept(path) if not (path.parent / name).exists()]
        fault = fault or (f"lacks {Path(lost[0]).name}" if lost else None)
    if fault and path.exists():
        set_aside(path, fault, warehouse)
    return fault is None


def set_aside(path: Path, fault: str, warehouse: Warehouse) -> None:
    """Moves a damaged file or folder below `damaged/` and logs that; of a cell the whole folder is moved.

    Nothing is moved in a read-only warehouse.
    """
    name = path.relative_to(warehouse.root).as_posix()
    if name.startswith("cells/"):
        name = "/".join(name.split("/")[:2])
    whole = warehouse.root / name
    aside = warehouse.root / FOLDER / name
    if not whole.exists() and not warehouse.is_remote:
        return
    problem = f"{path.relative_to(warehouse.root)}: {fault}"
    try:
        _move(whole, aside, warehouse)
    except OSError as error:
        LOG.warning("%s; it is left out, and cannot be set aside (%s).", problem, error.strerror)
        return
    LOG.warning("%s; set aside as %s. What needs it is made again by the next run.", problem, f"{FOLDER}/{name}")


def _move(path: Path, aside: Path, warehouse: Warehouse) -> None:
    if warehouse.is_remote:
        store, root = warehouse.store, warehouse.root
        below = store.below(path.relative_to(root).as_posix(), "")
        names = [f"{path.relative_to(root).as_posix()}/{part}" for part in below] or [path.relative_to(root).as_posix()]
        store.copy((name, f"{FOLDER}/{name}") for name in names)
        warehouse.discard(path)
        return
    aside.parent.mkdir(parents=True, exist_ok=True)
    remove(aside)
    with suppress(FileNotFoundError):  # another process was faster
        path.rename(aside)
    remove(path.with_name(path.name + checksums.SUFFIX))


def whole_cells(results: Iterable[str], warehouse: Warehouse, start: str = "") -> list[str]:
    """Returns the cells that exist with all of their tables; a cell that lacks one is set aside.

    In a remote warehouse objects are only listed, because each is complete or absent.

    Args: start: the prefix that the names of all these cells share.
    """
    whole = []
    stored: dict[str, set[str]] = {}
    for path in warehouse.store.below("cells", start) if warehouse.is_remote else ():
        found_in, _, name = path.partition("/")
        stored.setdefault(found_in, set()).add(name)
    for result in results:
        folder = warehouse.cell(result)
        if warehouse.is_remote:
            if result not in stored:
                continue
            faults = {name: "is missing" for name in TABLES_OF_CELL if name not in stored[result]}
        else:
            if not folder.is_dir():
                continue
            found = {name: checksums.fault_of(folder / name) for name in TABLES_OF_CELL}
            faults = {name: fault for name, fault in found.items() if fault}
        if faults:
            set_aside(folder / min(faults), faults[min(faults)], warehouse)
        else:
            whole.append(result)
    return whole

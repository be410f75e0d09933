"""Cleanup: removes old runs, and the files that nothing else needs.

These files are needed and stay:

- what a kept run reports: its cells (even those that an older run trained), the table versions they were trained on,
  the tables those were made from, and its snapshot with the snapshots that it was appended to;
- the cells that a kept run trained, whether it finished or not;
- the newest version of each feature table of these snapshots;
- the raw, staging and feature tables that the published database shows;
- the current champions, and the tables that prepare tracks for them (the champions of another catalogue stay as long as
  a kept run reports their cells);
- the data of each search for settings, and saved settings.

Everything else that follows the project's naming may be removed, and so may leftovers of killed processes.

Why that is safe:

- Runs in progress. Each flow holds the warehouse in use (`Warehouse.in_use`) from
  ingest to publication, and cleanup removes files only while it holds the warehouse alone. So no file is removed that a
  run is about to reuse. The kernel releases the lock of a killed process. The lock may not reach other machines, but
  their runs have a start record: while one of them has no end, nothing is removed. All flows that use a remote
  warehouse have a lease there (tasks/storage/leases.py), whichever machine they are on.
- Readers. No file is removed that a view of the published database names: the database is first published again
  without the removed runs. A reader may still have an older publication open. So files are removed only `grace_hours`
  after an upkeep first found them unneeded (recorded in `upkeep/retired/`), and open tables as long after a newer
  publication replaced them. If a run uses a file before that, it is needed again.
- A full disk. What can be removed without writing is removed first: leftovers of killed processes, records (a run's
  start, then its end; a snapshot's record), and files that the publication does not show. Then the database is
  published again, and the files are removed that only the old publication showed.
- A kill. A file is removed after the records that name it. The registry is written again before its files are removed,
  unless the disk has no room for it yet; a table that it names and that is gone counts as not built. Files that no
  record names any more are removed by the next upkeep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from tasks.errors import UserError, is_about_room, one_line
from tasks.features.registry import BuiltTable, compact_registry, read_registry
from tasks.ingest.snapshots import load_snapshot
from tasks.results.open_tables import remove_superseded, superseded
from tasks.results.publish import publish
from tasks.storage import checksums
from tasks.storage.warehouse import Warehouse, in_use_message
from tasks.upkeep.inventory import (
    RETIRED,
    Inventory,
    Item,
    StoredRun,
    freed_by,
    links_of,
    published_paths,
    record_files,
    size_of,
    snapshot_paths,
    take_inventory,
)
from tasks.upkeep.policy import Policy

REGISTRY_FILES = 20  # more are merged; each build adds one


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is removed now, and what is removed after the time of grace for readers."""

    keep: int  # number of runs
    runs: Mapping[str, Item]  # records of removed runs, by run_id
    files: Mapping[str, Item]  # removed files, by path
    rows: tuple[BuiltTable, ...]  # rows that stay in the registry
    retired: Mapping[str, datetime]  # paths to be removed later, and since when they have not been needed
    later: Mapping[str, Item]  # files to be removed later, by path

    @property
    def going(self) -> dict[str, Item]:
        """Everything that is removed now, by name."""
        return {**self.runs, **self.files}

    @property
    def leaving(self) -> dict[str, Item]:
        """Everything that is removed now or later, by name."""
        return {**self.going, **self.later}


def make_plan(inventory: Inventory, policy: Policy) -> Plan:
    """Returns what is to be removed. It is pure: equal inventories and policies give equal plans."""
    kept = policy.kept(inventory.runs, inventory.now)
    needed = needed_paths(inventory, kept)
    since = {path: inventory.retired.get(path, inventory.now) for path in inventory.items if path not in needed}
    latest = inventory.now - timedelta(hours=policy.grace_hours)
    due = {path for path, at in since.items() if at <= latest or inventory.items[path].kind == "temporary"}
    ids = {run.run_id for run in kept}
    grace = timedelta(hours=policy.grace_hours)
    older = superseded(inventory.publications, inventory.newest, inventory.now, grace) if inventory.newest else []
    return Plan(
        keep=len(kept),
        runs={run_id: Item("run", size) for run_id, size in inventory.records.items() if run_id not in ids},
        files={path: item for path, item in inventory.items.items() if path in due}
        | {f"published/{name}": Item("publication", inventory.publications[name]) for name in older},
        rows=tuple(
            row for row in inventory.registry if row.path in needed or (row.path in since and row.path not in due)
        ),
        retired={path: at for path, at in since.items() if path not in due},
        later={path: inventory.items[path] for path in since if path not in due},
    )


def needed_paths(inventory: Inventory, kept: list[StoredRun]) -> set[str]:
    """Returns the paths that must stay for the `kept` runs, the publication, the champions and the searches."""
    published = {path for path in inventory.published if not path.startswith("cells/")}
    needed = published | {run.sample for run in kept if run.sample}

    owners = tuple(f"-{run.run_id}" for run in kept)
    needed |= {f"cells/{result}" for run in kept for result in run.results}
    needed |= {f"cells/{result}" for result in inventory.predicting}
    needed |= {path for path in inventory.items if path.startswith("cells/") and path.endswith(owners)}
    ids = {run.run_id for run in kept}
    comparisons = {path: Path(path).stem.split("-against-") for path in inventory.items if path.startswith("reports/")}
    needed |= {path for path, compared in comparisons.items() if ids.issuperset(compared)}

    named = {version for run in kept for version in run.versions} | inventory.searched
    named |= set(inventory.predicting.values())
    named |= {row.version for row in inventory.registry if row.path in published}
    snapshots = {run.snapshot for run in kept}
    snapshots |= {row.snapshot for row in inventory.registry if row.version in named}
    snapshots |= inventory.shown_snapshots
    parts = {part for snapshot in snapshots for part in (snapshot, *inventory.bases.get(snapshot, ()))}
    needed |= {path for part in parts for path in snapshot_paths(part)}

    current = {  # sorted oldest first, so that the newest version of each table stays
        (row.table_name, row.protocol, row.snapshot): row.version
        for row in sorted(inventory.registry, key=lambda row: row.built_at)
        if row.snapshot in snapshots
    }
    versions = with_upstream(named | set(current.values()), inventory.registry)
    return needed | {row.path for row in inventory.registry if row.version in versions}


def with_upstream(versions: set[str], registry: Iterable[BuiltTable]) -> set[str]:
    """Returns `versions` and all versions they were made from; if that is not recorded, all of the same snapshot."""
    rows = {row.version: row for row in registry}
    found: set[str] = set()
    open_ends = list(versions)
    while open_ends:
        version = open_ends.pop()
        if version in found:
            continue
        found.add(version)
        if row := rows.get(version):
            siblings = [other.version for other in rows.values() if other.snapshot == row.snapshot]
            open_ends += siblings if row.upstream is None else row.upstream
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupOutcome:
    """What cleanup removed, or would remove."""

    is_dry_run: bool
    kept: int  # number of runs
    going: Mapping[str, Item]  # removed, by name
    later: Mapping[str, Item]  # to be removed later; readers of an older publication may need it
    freed: int  # bytes; a file with several hard links counts when the last one is removed
    freed_later: int  # bytes
    grace_hours: float
    size: int  # bytes of the warehouse afterwards
    freed_here: int  # bytes freed in the local copy of a remote warehouse


def tidy(
    policy: Policy, wait: float, on_wait: Callable[[], None], warehouse: Warehouse, *, dry_run: bool = False
) -> CleanupOutcome:
    """Removes what nothing needs; a dry run only reports it.

    Args: wait: seconds to wait for flows in progress. on_wait: is called once if there are any.

    Raises: UserError: a flow in progress, or a run of another machine, has not ended.
    """
    with warehouse.in_use() if dry_run else warehouse.alone(wait, on_wait):
        inventory = take_inventory(warehouse)
        running = [run.run_id for run in inventory.runs if run.status == "running"]
        if running and not dry_run:
            raise UserError(in_use_message(warehouse.address, f"run {running[0]}"))
        plan = make_plan(inventory, policy)
        files = {name: _files_of(name, item, warehouse) for name, item in plan.leaving.items()}
        going = plan.going if dry_run else carry_out(plan, inventory, warehouse)
        if not dry_run and (manifest := warehouse.manifest()):
            remove_superseded(manifest["publication"], warehouse, timedelta(hours=policy.grace_hours))
        stored = warehouse.sizes() if warehouse.is_remote else None

        def freed(items: Mapping[str, Item]) -> int:
            if stored is not None:
                return sum(item.size for item in items.values())
            return freed_by({file: links for name in items for file, links in files[name].items()})

        return CleanupOutcome(
            is_dry_run=dry_run,
            kept=plan.keep,
            going=going,
            later=plan.later,
            freed=freed(going),
            freed_later=freed({**going, **plan.later}) - freed(going),
            grace_hours=policy.grace_hours,
            size=size_of(warehouse.root) if stored is None else sum(stored.values()),
            freed_here=0 if stored is None or dry_run else warehouse.tidy_copy(stored),
        )


def _files_of(name: str, item: Item, warehouse: Warehouse) -> dict[Path, tuple[int, int, int]]:
    """Returns an item's files with their `links_of`; none for a remote warehouse, which has no hard links."""
    paths = record_files(name, warehouse) if item.kind == "run" else [warehouse.root / name]
    paths += [path.with_name(path.name + checksums.SUFFIX) for path in paths]
    return {} if warehouse.is_remote else {file: links for path in paths for file, links in links_of(path).items()}


def carry_out(plan: Plan, inventory: Inventory, warehouse: Warehouse) -> dict[str, Item]:
    """Carries out a plan; the caller holds the warehouse alone. Returns: what was removed, by name."""
    _free(plan, inventory, warehouse)
    try:
        _write_down(plan, inventory, warehouse)
    except (OSError, duckdb.Error, UserError) as error:
        raise UserError(
            f"{warehouse.address}: what nothing shows was removed, but the rest needs room for a new publication first "
            f"({one_line(error)[:200]}). Free some space, and run upkeep again."
        ) from error
    shown = _discard_unshown(plan, warehouse)
    return {name: item for name, item in plan.going.items() if name not in shown}


def _free(plan: Plan, inventory: Inventory, warehouse: Warehouse) -> None:
    """Removes what needs no room on the disk: leftovers, records, then files that the publication does not show."""
    first = [path for path, item in plan.files.items() if item.kind == "temporary"]
    for file in (
        *(warehouse.root / path for path in first),
        *(file for run_id in plan.runs for file in record_files(run_id, warehouse)),
        *(warehouse.root / path for path in plan.files if _is_record(path)),
    ):
        warehouse.discard(file)
    try:
        _write_registry(plan, inventory, warehouse)
    except (OSError, UserError) as error:
        if not is_about_room(error):
            raise
    _discard_unshown(plan, warehouse)


def _discard_unshown(plan: Plan, warehouse: Warehouse) -> frozenset[str]:
    """Removes the files that the publication does not show. Returns: the paths that it shows."""
    shown = published_paths(warehouse)
    for path in plan.files:
        if path not in shown:
            warehouse.discard(warehouse.root / path)
    return shown


def _write_down(plan: Plan, inventory: Inventory, warehouse: Warehouse) -> None:
    """Updates the registry, the publication and the list of what is removed later."""
    _write_registry(plan, inventory, warehouse)
    is_outdated = plan.runs or any(map(_is_record, plan.files)) or len(plan.rows) < len(inventory.registry)
    if is_outdated or not inventory.published.isdisjoint({*plan.files, *plan.retired}):
        _publish_again(inventory, warehouse)
    _remember(plan.retired, inventory, warehouse)


def _is_record(path: str) -> bool:
    return path.startswith("raw/snapshots/")


def _write_registry(plan: Plan, inventory: Inventory, warehouse: Warehouse) -> None:
    """Writes the registry again if it names removed tables or has too many files."""
    files = warehouse.files("features", "registry")
    is_outdated = len(plan.rows) < len(inventory.registry) and len(plan.rows) < len(read_registry(warehouse))
    if is_outdated or len(files) > REGISTRY_FILES:
        compact_registry(list(plan.rows), warehouse)


def _publish_again(inventory: Inventory, warehouse: Warehouse) -> None:
    """Publishes what is recorded now, with the same raw data and features as before."""
    for snapshot in sorted(inventory.shown_snapshots)[:1]:
        features = [row for row in inventory.registry if row.path in inventory.published]
        publish(load_snapshot(snapshot, warehouse), features, warehouse)


def _remember(retired: Mapping[str, datetime], inventory: Inventory, warehouse: Warehouse) -> None:
    """Records since when each path has not been needed; the newest file is the valid one."""
    if retired == inventory.retired:
        return
    replaced = warehouse.files("upkeep", "retired")
    if retired:
        rows: list[dict[str, object]] = [{"path": path, "since": at} for path, at in retired.items()]
        name = f"{inventory.now:%Y%m%dT%H%M%S%f}"
        warehouse.write_rows(warehouse.table("upkeep", "retired", name), rows, RETIRED)
    for file in replaced:
        warehouse.discard(file)

"""Catalogues: which tracks the runs of a warehouse are about, and which of them is the current catalogue.

A catalogue is what a source names: a file by its absolute path, a URL without secrets, or the generated sample of any
size. Whatever such a name holds when it is read is another snapshot of one catalogue, and appended tracks belong to the
catalogue of their base.

A warehouse shows the results of one catalogue, the current one: its champions, known tracks, leaderboard and reports.
It is that of the newest completed run that asked for it (`--as-current`); if none did, that of the oldest completed
run of real data; if there is none, the generated sample. Runs of other catalogues are trials. So the records of runs
decide, which are never rewritten: a run that is killed or fails decides nothing, and of two runs at once the later one
decides.

Runs of earlier versions could not ask. Those of real data count as if they had, because the newest real data was shown
then. Their catalogue is known by the file's name alone, and is the file of that name that a later run reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa

from tasks.ingest.snapshots import Snapshot, load_snapshot
from tasks.storage.damage import read_rows
from tasks.storage.warehouse import Warehouse
from tasks.training import runs

Run = TypeVar("Run")
ENDED = pa.schema([runs.FINISHED.field("run_id"), runs.FINISHED.field("status")])


@dataclass(frozen=True, slots=True)
class Catalogues:
    """The catalogues of a warehouse's runs."""

    of_run: Mapping[str, str]  # by run_id
    current: str | None  # None: no run is completed
    decided_by: str | None  # the run that made it current
    read: frozenset[str]  # snapshots that runs of the current catalogue read
    files: Mapping[str, str]  # absolute paths by file name, for records that have only the name
    gives_way: bool  # the current one is the generated sample, and none asked for it: real data takes its place

    @classmethod
    def of(cls, warehouse: Warehouse) -> Catalogues:
        """Reads the records of all runs."""
        started = read_rows(warehouse.files("runs", "started"), runs.STARTED, warehouse).to_pylist()
        ended = read_rows(warehouse.files("runs", "finished"), ENDED, warehouse).to_pylist()
        oldest_first = sorted(started, key=lambda run: (run["started_at"], run["run_id"]))
        files: dict[str, str] = {}
        for name in map(_recorded, oldest_first):
            if name.startswith("/"):
                files.setdefault(PurePosixPath(name).name, name)
        of_run = {run["run_id"]: files.get(name := _recorded(run), name) for run in oldest_first}
        completed = {run["run_id"] for run in ended if run["status"] == "completed"}
        decided_by = deciding(
            (run["run_id"], asked(run), run["is_generated"]) for run in oldest_first if run["run_id"] in completed
        )
        current = of_run.get(decided_by or "")
        gives_way = any(run["run_id"] == decided_by and run["is_generated"] and not asked(run) for run in started)
        read = frozenset(run["snapshot"] for run in oldest_first if of_run[run["run_id"]] == current)
        return cls(of_run, current, decided_by, read, files, gives_way)

    def of_record(self, record: Mapping[str, Any]) -> str:
        """Returns the catalogue of a record with the columns catalogue, source and is_generated."""
        return self.files.get(name := _recorded(record), name)

    def has_current(self, snapshot: Snapshot) -> bool:
        """Whether a stored snapshot has tracks of the current catalogue: its runs read it, or its record says so.

        Until a run is completed, any snapshot may; real data may take the place of the sample that none asked for.
        """
        if self.current is None or (self.gives_way and not snapshot.is_generated):
            return True
        return snapshot.snapshot in self.read or self._is_current(self.of_record(_fields(snapshot)))

    def _is_current(self, catalogue: str) -> bool:
        return self.current in {catalogue, PurePosixPath(catalogue).name if catalogue.startswith("/") else catalogue}

    def placed(self, snapshot: Snapshot, warehouse: Warehouse) -> Snapshot:
        """Returns a snapshot with its catalogue.

        Of a stored one that is read again, it is the current catalogue if that has the tracks, or those that they were
        appended to; else the one that it was read from.
        """
        if snapshot.catalogue:
            return snapshot
        recorded = load_snapshot(snapshot.snapshot, warehouse)
        is_current = not self.read.isdisjoint(recorded.parts)
        return replace(snapshot, catalogue=self.current if is_current else self.of_record(_fields(recorded)))

    def trial(self, snapshot: Snapshot) -> str | None:
        """Returns for the user that a run of a snapshot is a trial, and what to do; None if it is none.

        Args: snapshot: with its catalogue.
        """
        takes_over = self.current is None or (self.gives_way and not snapshot.is_generated)
        if takes_over or self._is_current(self.of_record(_fields(snapshot))):
            return None
        return (
            f"This run is a trial: {snapshot.catalogue} is not the current catalogue of the warehouse, which is "
            f"{self.current}. Champions, known tracks, results.leaderboard and flows.report stay those of the current "
            "one; the trial is in results.leaderboards. To make its catalogue the current one, run the benchmark with "
            "--as-current."
        )


def _fields(snapshot: Snapshot) -> dict[str, object]:
    return {name: getattr(snapshot, name) for name in ("catalogue", "source", "is_generated")}


def _recorded(record: Mapping[str, Any]) -> str:
    """Returns the catalogue that a record names; of an earlier version's record the file's name, URL or `sample`."""
    if record["catalogue"]:
        return str(record["catalogue"])
    return "sample" if record["is_generated"] else str(record["source"]).split(" + ")[0]  # appended: the base's


def asked(run: Mapping[str, Any]) -> bool:
    """Whether a run, a row of runs.STARTED, asked that its catalogue become the current one, or counts as if it had."""
    return bool(run["as_current"] or (run["as_current"] is None and not run["is_generated"]))


def deciding(completed: Iterable[tuple[Run, bool, bool]]) -> Run | None:
    """Returns the run whose catalogue is the current one.

    Args: completed: completed runs, oldest first, whether each asked, and whether its data is generated.
    """
    newest_asked = oldest_real = oldest = None
    for run, has_asked, is_generated in completed:
        newest_asked = run if has_asked else newest_asked
        oldest_real = oldest_real or (None if is_generated else run)
        oldest = oldest or run
    return newest_asked or oldest_real or oldest

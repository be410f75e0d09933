"""Records runs: one file when a run starts, and one when it ends, with an entry for each cell."""

from __future__ import annotations

import json
import os
import platform
import secrets
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil
import pyarrow as pa

from tasks.ingest.snapshots import Snapshot
from tasks.specs import Cell
from tasks.storage.warehouse import Warehouse
from tasks.training.cell_key import parameters_json
from tasks.training.jobs import Job

REPORTED_VERSIONS = (
    "prefect",
    "duckdb",
    "polars",
    "numpy",
    "scikit-learn",
    "scikit-learn-intelex",
    "xgboost",
    "xgboost-cpu",
    "catboost",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "pyarrow",
)
STARTED = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("started_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("budget", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("is_generated", pa.bool_(), nullable=False),
        pa.field("is_study_file", pa.bool_(), nullable=False),
        pa.field("snapshot", pa.string(), nullable=False),
        pa.field("git_commit", pa.string()),
        pa.field("versions", pa.string(), nullable=False),
        pa.field("cpu_count", pa.int64(), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("flow_run_id", pa.string()),
        pa.field("pid", pa.int64(), nullable=False),
        pa.field("pid_started", pa.float64(), nullable=False),
        pa.field("runner", pa.string()),  # this and the next two are NULL for runs of earlier versions
        pa.field("cells_at_once", pa.int64()),
        pa.field("threads_per_cell", pa.int64()),
        pa.field("catalogue", pa.string()),  # this and the next are NULL for runs of earlier versions
        pa.field("as_current", pa.bool_()),  # whether the run asked that its catalogue become the current one
    ]
)
FINISHED = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("finished_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field(
            "cells",
            pa.list_(
                pa.struct(
                    {
                        "protocol": pa.string(),
                        "task": pa.string(),
                        "model": pa.string(),
                        "feature_set": pa.string(),
                        "seed": pa.int64(),
                        "budget": pa.string(),
                        "train_rows": pa.int64(),  # NULL: all
                        "fold": pa.int64(),  # this and the next: NULL for the protocol's one split
                        "folds": pa.int64(),
                        "fold_seed": pa.int64(),  # NULL: the study's
                        "workers": pa.int64(),  # NULL: one process
                        "settings": pa.string(),  # JSON; NULL: the registered ones
                        "status": pa.string(),
                        "reused": pa.bool_(),
                        "error": pa.string(),
                        "cell_key": pa.string(),
                        "result": pa.string(),
                        "params": pa.string(),
                        "feature_version": pa.string(),
                        "staging_version": pa.string(),
                    }
                )
            ),
            nullable=False,
        ),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutcome:
    """The outcome of one cell of a run."""

    cell: Cell
    status: str  # ok | failed | timed_out
    reused: bool
    error: str | None
    cell_key: str
    result: str | None  # the folder below `cells/`
    params: str
    feature_version: str
    staging_version: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is recorded as started."""

    run_id: str
    snapshot: Snapshot
    budget: str


def start_run(
    snapshot: Snapshot,
    budget: str,
    warehouse: Warehouse,
    flow_run_id: str | None = None,
    *,
    runner: str = "local",
    cells_at_once: int = 1,
    threads_per_cell: int = 1,
    as_current: bool = False,
) -> Run:
    """Records the start of a run, its input and its machine. Run ids sort by time.

    Args: flow_run_id: the id of Prefect's flow run. runner: local or dask. as_current: see tasks.training.catalogues.
    """
    warehouse.sweep()
    now = datetime.now(UTC)
    run = Run(f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}", snapshot, budget)
    row: dict[str, object] = {
        "run_id": run.run_id,
        "started_at": now,
        "budget": budget,
        "source": snapshot.source,
        "is_generated": snapshot.is_generated,
        "is_study_file": snapshot.is_study_file,
        "snapshot": snapshot.snapshot,
        "git_commit": _git_commit(),
        "versions": json.dumps(library_versions()),
        "cpu_count": os.cpu_count() or 1,
        "host": socket.gethostname(),
        "flow_run_id": flow_run_id,
        "pid": os.getpid(),
        "pid_started": psutil.Process().create_time(),
        "runner": runner,
        "cells_at_once": cells_at_once,
        "threads_per_cell": threads_per_cell,
        "catalogue": snapshot.catalogue,
        "as_current": as_current,
    }
    warehouse.write_rows(warehouse.table("runs", "started", run.run_id), [row], STARTED)
    return run


def finish_run(run: Run, status: str, outcomes: Sequence[CellOutcome], warehouse: Warehouse) -> None:
    """Records the end of a run. Args: status: completed, failed (every cell, or the run itself) or interrupted."""
    cells = []
    for outcome in outcomes:
        row = asdict(outcome)
        cells.append({**row.pop("cell"), **row})
    row = {"run_id": run.run_id, "finished_at": datetime.now(UTC), "status": status, "cells": cells}
    warehouse.write_rows(warehouse.table("runs", "finished", run.run_id), [row], FINISHED)


def outcome_of(
    job: Job, status: str, *, reused: bool = False, result: str | None = None, error: str | None = None
) -> CellOutcome:
    """Returns the outcome of a job's cell."""
    return CellOutcome(
        cell=job.cell,
        status=status,
        reused=reused,
        error=error,
        cell_key=job.key,
        result=result,
        params=parameters_json(job.cell),
        feature_version=job.feature_version,
        staging_version=job.staging_version,
    )


def is_alive(host: str, pid: int, pid_started: float) -> bool:
    """Whether the process of a run still runs. A process of another machine cannot be seen and counts as alive."""
    if host != socket.gethostname():
        return True
    try:
        return abs(psutil.Process(pid).create_time() - pid_started) < 1.0
    except psutil.NoSuchProcess:
        return False


def _git_commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the installed libraries in REPORTED_VERSIONS."""
    versions = {"python": platform.python_version()}
    for name in REPORTED_VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions

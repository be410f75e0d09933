"""Crashed-run cleanup: marks flow runs whose process was killed, which Prefect would show as running forever.

Each flow that writes to the warehouse leaves a marker file with its process in its `tmp/`. The next flow on that
warehouse finds the markers of processes that are gone, and marks their flow runs and task runs as crashed in Prefect.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from pathlib import Path
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter, TaskRunFilterState, TaskRunFilterStateType
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Crashed

from tasks.storage.warehouse import Warehouse
from tasks.training.runs import is_alive

MARKER = re.compile(r"flow-run-([0-9a-f-]{36})\.(.+)\.(\d+)-(\d+)\.note")  # flow run, host, process and its start time
KEPT_SECONDS = 30 * 86_400.0
UNFINISHED = [StateType.PENDING, StateType.RUNNING]
GONE: State[None] = Crashed(message="its process was killed: found by the next run on its warehouse")
logger = logging.getLogger(__name__)


def mark_killed_runs(warehouse: Warehouse) -> list[UUID]:
    """Writes a marker for the current flow run, and marks the flow runs of processes that are gone as crashed.

    Returns: the flow runs that were marked. If Prefect does not answer, their marker files are kept for the next run.
    """
    left = _left_behind(warehouse)
    if flow_run.id:
        started = int(psutil.Process().create_time())
        name = f"flow-run-{flow_run.id}.{socket.gethostname()}.{os.getpid()}-{started}.note"
        (warehouse.root / "tmp" / name).touch()
    marked = []
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}), get_client(sync_client=True) as client:
            for marker, run_id in left.items():
                try:
                    if _mark(client, run_id):
                        marked.append(run_id)
                except ObjectNotFound:  # of another server, which a later flow may use
                    if _age(marker) < KEPT_SECONDS:
                        continue
                marker.unlink(missing_ok=True)
    except Exception as error:  # noqa: BLE001 - the run goes on after any error
        logger.warning("Prefect did not answer when killed runs were to be marked: %s", error)
    return marked


def _left_behind(warehouse: Warehouse) -> dict[Path, UUID]:
    """Returns the markers of this machine's processes that are gone, and their flow runs."""
    left = {}
    for marker in (warehouse.root / "tmp").glob("*.note"):
        found = MARKER.fullmatch(marker.name)
        if found and not is_alive(found[2], int(found[3]), float(found[4])):
            left[marker] = UUID(found[1])
    return left


def _age(marker: Path) -> float:
    """Returns the age of a marker in seconds; 0 if another flow has removed it meanwhile."""
    try:
        return time.time() - marker.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _mark(client: SyncPrefectClient, run_id: UUID) -> bool:
    run = client.read_flow_run(run_id)
    if run.state is None or run.state.type not in UNFINISHED:
        return False
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run_id]}}),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=UNFINISHED))),
    )
    for task in tasks:
        client.set_task_run_state(task.id, GONE, force=True)
    client.set_flow_run_state(run_id, GONE, force=True)
    return True

from __future__ import annotations

import os
import socket
import time
from contextlib import nullcontext
from uuid import UUID, uuid4

import pytest
from prefect.exceptions import ObjectNotFound

from tasks.orchestration import crashed_runs


@pytest.mark.parametrize(("age", "is_kept"), [(0.0, True), (2 * crashed_runs.KEPT_SECONDS, False)])
def test_the_note_of_a_run_that_this_server_does_not_know_is_kept_for_a_while(
    age, is_kept, warehouse, monkeypatch
) -> None:
    note = _left_by_a_killed_process(warehouse, monkeypatch)
    os.utime(note, (time.time() - age,) * 2)

    def not_found(_client: object, _run_id: UUID) -> bool:
        raise ObjectNotFound(Exception())

    monkeypatch.setattr(crashed_runs, "_mark", not_found)
    assert crashed_runs.mark_killed_runs(warehouse) == []
    assert note.exists() is is_kept


def test_another_flow_may_be_done_with_a_note_first(warehouse, monkeypatch) -> None:
    """One that starts at the same time, of whose server the run is."""
    note = _left_by_a_killed_process(warehouse, monkeypatch)

    def not_found(_client: object, _run_id: UUID) -> bool:
        note.unlink()
        raise ObjectNotFound(Exception())

    monkeypatch.setattr(crashed_runs, "_mark", not_found)
    assert crashed_runs.mark_killed_runs(warehouse) == []


def _left_by_a_killed_process(warehouse, monkeypatch):
    monkeypatch.setattr(crashed_runs, "get_client", lambda **_: nullcontext())
    monkeypatch.setattr(crashed_runs, "is_alive", lambda *_: False)
    note = warehouse.root / "tmp" / f"flow-run-{uuid4()}.{socket.gethostname()}.1-1.note"
    note.touch()
    return note

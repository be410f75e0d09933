"""Processes of several machines at one store, each made to lose the race at its worst moment."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.prediction import champions
from tasks.prediction.calibrate import Calibration
from tasks.prediction.champions import Champion, choose, current
from tasks.storage import leases
from tasks.storage.object_store import Store
from tasks.storage.warehouse import Warehouse
from tests.helpers.stored import candidate


@pytest.fixture
def home(tmp_path, monkeypatch) -> Warehouse:
    monkeypatch.setenv("MUSIC_CACHE", str(tmp_path))
    return Warehouse.at(f"memory://{uuid.uuid4().hex}")


def test_who_waits_for_each_other_does_not_do_so_in_step(home, monkeypatch) -> None:
    note, waited = "use/upkeep-00000000.elsewhere.1", []
    home.store.write(note, b"")

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 5:
            home.store.remove_one(note)

    monkeypatch.setattr(leases, "time", SimpleNamespace(sleep=wait, monotonic=lambda: 0.0))
    with home.in_use():
        assert len(set(waited)) == 5
        assert 0 < min(waited) < max(waited) < 2 * leases.POLL_SECONDS


def test_a_note_that_is_taken_for_one_of_the_killed_is_put_again(home, monkeypatch) -> None:
    """By upkeep that removes what is left, and ends before the flow has looked who is there."""
    holders = leases.holders

    def after_upkeep(store: Store, folder: str) -> dict:
        monkeypatch.setattr(leases, "holders", holders)
        [note] = store.names(folder)
        store.remove_one(f"{folder}/{note}")
        return holders(store, folder)

    monkeypatch.setattr(leases, "holders", after_upkeep)
    with home.in_use():
        assert [name.split("-")[0] for name in home.store.names("use")] == ["flow"]


def test_a_folder_that_is_fetched_twice_at_once_is_there_once(home, monkeypatch) -> None:
    table = home.table("features", "x", "1")
    home.store.write("features/x/1.parquet/000000.parquet", b"rows")
    replace_file = os.replace

    def replace_after_another(temporary: Path, final: Path) -> None:
        monkeypatch.setattr(os, "replace", replace_file)
        home.here(table)
        os.replace(temporary, final)

    monkeypatch.setattr(os, "replace", replace_after_another)
    assert [part.read_bytes() for part in home.parts(table)] == [b"rows"]
    assert list((home.root / "tmp").iterdir()) == []


def test_a_folder_may_be_fetched_while_it_is_put(home, monkeypatch) -> None:
    table = home.table("features", "x", "1")
    put = Store.put

    def put_and_have_it_fetched(store: Store, files: object) -> list[str]:
        there = put(store, files)
        home.here(table)
        return there

    monkeypatch.setattr(Store, "put", put_and_have_it_fetched)
    with home.new_folder(table) as folder:
        pq.write_table(pa.table({"n": [1]}), folder / "000000.parquet")
    assert [pq.read_table(part).to_pylist() for part in home.parts(table)] == [[{"n": 1}]]
    assert list((home.root / "tmp").iterdir()) == []


def test_champions_are_chosen_on_one_machine_at_a_time(home, monkeypatch) -> None:
    """What another machine has decided meanwhile is what a challenger must beat."""
    worse, better = candidate(home, "worse", 0.40), candidate(home, "better", 0.48)
    measured = Calibration(genres=[], n_validation=50, n_test=50, familiarity=[])
    monkeypatch.setattr(champions, "candidates", lambda _home, _run_id: [worse])
    monkeypatch.setattr(champions, "calibrate_in_child", lambda *_: [measured])
    monkeypatch.setattr(champions, "_obstacle", lambda *_: None)
    monkeypatch.setattr(champions, "_nothing_to_choose_by", lambda *_: None)
    note = "use/champions/lock-00000000.elsewhere.1"
    home.store.write(note, b"")

    def decide_elsewhere(_seconds: float) -> None:
        one = Champion(candidate=better, calibration=measured, chosen_at=datetime.now(UTC), replaced=None, reason="")
        home.write_rows(home.table("champions", "decisions", "other"), [champions._row(one)], champions.CHAMPIONS)
        home.store.remove_one(note)

    monkeypatch.setattr(leases.time, "sleep", decide_elsewhere)
    [line] = choose("run", home, 1)
    assert "Champion for genre stays" in line
    assert [replace(one.candidate, started_at=better.started_at) for one in current(home)] == [better]
    assert home.store.names("use/champions") == []

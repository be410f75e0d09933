"""What goes wrong on a real machine, done to real processes: kills, greed, full and read-only disks, crowds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from uuid import UUID

import duckdb
import httpx
import psutil
import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import StateType

from tasks.storage.warehouse import Warehouse
from tests.helpers.amounts import amount, mostly_long
from tests.helpers.commands import ROOT, command, in_training, query, run, scripted, started, until
from tests.helpers.tracks import many

CROWD_SECONDS = float(os.environ.get("CROWD_SECONDS", str(amount(5, 30))))  # with runs and readers at once
DATA = ["--source", "sample:2000", "--feature-sets", "all"]
FEW = ["--source", "sample:2000", "--models", "linear,ridge", "--feature-sets", "all"]


def parquet_files(home: Warehouse) -> list[Path]:
    return [file for file in home.root.rglob("*.parquet") if file.relative_to(home.root).parts[0] != "tmp"]


def assert_whole(home: Warehouse) -> None:
    """Whatever has its final name can be read, and so can the publication, if there is one."""
    for file in parquet_files(home):
        pq.read_metadata(file)
    if home.database.exists():
        query(home, "select count(*) from raw.tracks")


@pytest.fixture
def home(environment) -> Warehouse:
    return Warehouse.at(environment["MUSIC_WAREHOUSE"])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def is_ingesting(home: Warehouse) -> bool:
    return any((home.root / "tmp").glob("*.tmp")) and not home.files("raw", "snapshots")


def is_training(home: Warehouse) -> bool:
    return len(list((home.root / "cells").glob("*/"))) == 2


def is_publishing(home: Warehouse) -> bool:
    return any((home.root / "tmp").glob("music-*.tmp")) and any(home.files("runs", "finished"))


@pytest.mark.slow
@pytest.mark.parametrize("is_there", mostly_long([is_ingesting, is_training, is_publishing], is_training))
def test_a_killed_run_loses_nothing_and_resumes(is_there, environment, home, tmp_path) -> None:
    many(amount(4_000, 20_000)).write_csv(tmp_path / "tracks.csv")
    options = ["--source", str(tmp_path / "tracks.csv"), "--models", "linear,lasso,xgboost", "--feature-sets", "all"]
    options += ["--workers", "1", "--budget", "smoke"]
    with started(environment, *options) as process:
        until(lambda: is_there(home) or process.poll() is not None, every=0.001)
        process.send_signal(signal.SIGSTOP)  # it goes no further while its children are listed
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert_whole(home)
    assert not home.database.exists()
    done_before = {folder.name for folder in (home.root / "cells").glob("*/")}
    assert len(done_before) in {is_ingesting: {0}, is_training: {2, 3}, is_publishing: {4}}[is_there]

    done = run(environment, *options)
    assert done.returncode == 0, done.stderr
    cells = query(home, "select result, reused from results.cells order by run_id desc limit 4")
    assert {result for result, reused in cells if reused} == done_before
    keys = Counter(folder.name.split("-")[0] for folder in (home.root / "cells").glob("*/"))
    assert set(keys.values()) == {1}  # none was trained twice
    assert len(keys) == 4
    assert_whole(home)
    assert list((home.root / "tmp").glob("*.tmp")) == []
    statuses = [status for (status,) in query(home, "select status from results.runs order by started_at")]
    assert statuses == {
        is_ingesting: ["completed"], is_training: ["killed", "completed"], is_publishing: ["completed", "completed"]
    }[is_there]  # fmt: skip
    killed = {} if is_there is is_ingesting else {"CRASHED": 1}  # the command ingests before it starts the flow
    assert prefect_states(environment) == {"COMPLETED": 1} | killed


def prefect_states(environment: dict[str, str]) -> dict[str, int]:
    """How many of the flow runs that were told this warehouse are in each state, task runs as their flow run."""
    tmp = Path(environment["MUSIC_WAREHOUSE"]) / "tmp"
    ended = [note.name.split(".")[0].removeprefix("flow-run-") for note in tmp.glob("*.note")]
    with duckdb.connect() as connection:
        found = connection.execute(f"select flow_run_id from '{tmp.parent}/runs/started/*.parquet'").fetchall()
    ids = {*ended, *(run_id for (run_id,) in found)}
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(ids))))
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(ids))))
    assert not [task.name for task in tasks if task.state.type in {StateType.RUNNING, StateType.PENDING}]
    return dict(Counter(run.state.type.value for run in runs))


@pytest.mark.alone
@pytest.mark.long
def test_a_killed_cell_is_a_row_and_the_rest_goes_on(environment, home, tmp_path) -> None:
    with started(scripted(environment, tmp_path / "begun"), *DATA, "--models", "sleeps,linear") as process:
        in_training(tmp_path / "begun").kill()
        printed = process.communicate(timeout=300)[0]
    assert process.returncode == 0
    assert "killed by signal 9 (SIGKILL)" in printed
    rows = query(home, "select model, status from results.cells order by all")
    assert rows == [("linear", "ok"), ("sleeps", "failed")]


@pytest.mark.alone
@pytest.mark.long
def test_a_greedy_cell_an_endless_one_and_one_that_raises_are_rows(environment, home, tmp_path) -> None:
    limits = ["--cell-memory", "600", "--cell-timeout", "5", "--workers", "2"]
    done = run(scripted(environment, tmp_path / "begun"), *DATA, "--models", "grows,sleeps,raises,linear", *limits)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    rows = dict(query(home, "select model, status || ': ' || coalesce(error, '') from results.cells"))
    assert re.fullmatch(r"failed: ended at [\d,]+ MiB of memory, above the limit of a cell \(600 MiB\)", rows["grows"])
    assert rows["sleeps"] == "timed_out: ended after 5 s, the time limit of a cell"
    assert rows["raises"] == "failed: ImportError: libmodel.so: not found"
    assert rows["linear"] == "ok: "


@pytest.mark.alone
@pytest.mark.long
def test_a_model_that_raises_is_a_row(environment, home, tmp_path) -> None:
    """A library that is not installed whole."""
    (tmp_path / "broken" / "tensorflow").mkdir(parents=True)
    (tmp_path / "broken" / "tensorflow" / "__init__.py").write_text("raise ImportError('libtensorflow.so: not found')")
    options = ["--source", "sample:2000", "--feature-sets", "all", "--models", "multitask,linear"]
    done = run(environment | {"PYTHONPATH": str(tmp_path / "broken")}, *options)
    assert done.returncode == 0, done.stderr
    rows = query(home, "select distinct model, status, error from results.cells order by model")
    assert rows == [("linear", "ok", None), ("multitask", "failed", "ImportError: libtensorflow.so: not found")]
    assert "Traceback" not in done.stdout + done.stderr
    [file] = home.files("runs", "started")
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(pq.read_table(file)["flow_run_id"][0].as_py()))
    assert (flow_run.state.type, flow_run.state.name) == (StateType.COMPLETED, "CompletedWithFailures")
    assert flow_run.state.message.startswith("1 of 2 cells ok")
    wanted = {"event": {"name": ["prefect.flow-run.CompletedWithFailures"]}}
    wanted["resource"] = {"id": [f"prefect.flow-run.{flow_run.id}"]}
    url = f"{environment['PREFECT_API_URL']}/events/filter"
    until(lambda: httpx.post(url, json={"filter": wanted}).json()["total"] == 1, seconds=30, every=0.5)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_at_once_with_its_state_recorded(number, environment, home, tmp_path) -> None:
    with started(scripted(environment, tmp_path / "begun"), *DATA, "--models", "sleeps,linear") as process:
        in_training(tmp_path / "begun")
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        printed = process.communicate(timeout=30)[0]
    assert process.returncode == 128 + number
    assert "Interrupted. Finished cells are kept" in printed
    assert "Traceback" not in printed
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert query(home, "select status from results.runs") == [("interrupted",)]
    assert prefect_states(environment) == {"CRASHED": 1}


@pytest.mark.alone
@pytest.mark.long
def test_a_full_disk_is_one_line_and_what_was_published_stays(environment, small_disk) -> None:
    environment = environment | {"MUSIC_WAREHOUSE": str(small_disk)}
    home = Warehouse.at(small_disk)
    assert run(environment, *FEW).returncode == 0
    before = query(home, "select * from results.metrics order by all")

    filler = small_disk / "filler"
    for spare, options in ((200_000, ["--source", "sample:30000", *FEW[2:]]), (200_000, [*FEW, "--refresh"])):
        with filler.open("wb") as file:
            file.write(bytes(max(0, psutil.disk_usage(str(small_disk)).free - spare)))
        done = run(environment, *options)
        assert done.returncode == 1, done.stdout
        assert "No space left on device" in done.stderr or "disk" in done.stderr.lower(), done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert_whole(home)
        assert query(home, "select * from results.metrics order by all") == before
        filler.unlink()
    done = run(environment, *FEW, "--refresh")
    assert done.returncode == 0, done.stderr
    assert list((small_disk / "tmp").glob("*.tmp*")) == []


def test_a_read_only_warehouse_is_one_line(environment, small_disk) -> None:
    environment = environment | {"MUSIC_WAREHOUSE": str(small_disk)}
    (small_disk / "tmp").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = run(environment, *FEW)
    assert done.returncode == 1
    assert "the warehouse is not writable. Choose another with --warehouse." in done.stderr
    assert len(done.stderr.splitlines()) == 1


class Reader(threading.Thread):
    """Opens the publication, asks of it what must hold of a whole one, and keeps some connections open for a while."""

    def __init__(self, home: Warehouse, stop: threading.Event) -> None:
        super().__init__()
        self.home, self.stopped = home, stop
        self.reads, self.errors = 0, []

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                with duckdb.connect(str(self.home.database), read_only=True) as connection:
                    for _ in range(3):
                        self._check(connection)
                        time.sleep(0.05)
            except Exception as error:  # noqa: BLE001 - told by the test
                self.errors.append(error)

    def _check(self, connection: duckdb.DuckDBPyConnection) -> None:
        [(cells, metrics, doubled)] = connection.execute(
            """
            select
                (select count(*) from results.cells where status = 'ok'),
                (select count(distinct (run_id, model)) from results.metrics),
                (select count(*) - count(distinct (run_id, model, split, slice, metric)) from results.metrics)
            """
        ).fetchall()
        ended = connection.execute("select count(*) from results.runs where status = 'completed'").fetchall()[0][0]
        predictions = connection.execute("select count(*) from results.predictions").fetchall()[0][0]
        assert (cells, doubled) == (metrics, 0)
        assert cells == 2 * ended
        assert predictions == cells * 600
        self.reads += 1


@pytest.mark.alone
@pytest.mark.long
def test_two_runs_and_three_readers_share_a_warehouse(environment, home) -> None:
    """One writer refreshes what the other reuses; nothing is lost, doubled, half visible or blocked."""
    assert run(environment, *FEW).returncode == 0
    stop = threading.Event()
    readers = [Reader(home, stop) for _ in range(3)]
    for reader in readers:
        reader.start()
    runs, deadline = 1, time.monotonic() + CROWD_SECONDS
    while time.monotonic() < deadline or runs < 3:
        pair = [
            subprocess.Popen(
                command(*FEW, *more), env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            for more in ([], ["--refresh"])
        ]
        for process in pair:
            _, printed = process.communicate(timeout=300)
            assert process.returncode == 0, printed
        runs += len(pair)
    stop.set()
    for reader in readers:
        reader.join()
        assert reader.errors == []
        assert reader.reads > 3
    assert query(home, "select status, count(*) from results.runs group by 1") == [("completed", runs)]
    assert query(home, "select count(*) from results.cells where status = 'ok'") == [(2 * runs,)]
    assert_whole(home)

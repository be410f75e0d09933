from __future__ import annotations

import fcntl
import hashlib
import multiprocessing.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest
from xdist.scheduler import LoadFileScheduling

from tasks.compute.processes import Processes
from tasks.features.build import build_features
from tasks.features.registry import BuiltTable
from tasks.ingest.read import ingest
from tasks.ingest.snapshots import Snapshot
from tasks.prediction import champions
from tasks.results.publish import publish
from tasks.storage.warehouse import Warehouse
from tasks.training.grid import plan_cells
from tasks.training.jobs import make_jobs
from tasks.training.runs import finish_run, outcome_of, start_run
from tasks.training.train import train_cell

MADE_SLOWLY = {"prefect_server", "trained"}
ROOT = Path(__file__).resolve().parents[1]
# What TensorFlow removes when the process ends, and locks: to remove one that another process has opened breaks it.
STAYS = re.compile(r"^__autograph_generated_file|\.lock$")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is long or needs what takes seconds to make is slow: `-m "not slow"` is the loop of who changes a line."""
    for item in items:
        if item.get_closest_marker("long") or MADE_SLOWLY & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.slow)


class OneServer(LoadFileScheduling):
    """Of several processes of tests, one has all files that need Prefect's server, so that it starts once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", maxsplit=1)[0]
        return "server" if needs_server(ROOT / file) else file


@cache
def needs_server(file: Path) -> bool:
    return re.search(r"def \w+\([^)]*\b(prefect_server|environment)\b", file.read_text("utf-8")) is not None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return OneServer(config, log)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end there is no process, no open port and no temporary file of what these tests started."""
    tmp_path_factory.getbasetemp()  # stays where it is, for who looks at a failure
    multiprocessing.util.get_temp_dir()  # goes when this process ends
    folder = tempfile.mkdtemp(prefix="tests-")
    with mock.patch.dict(os.environ, {"TMPDIR": folder}), mock.patch("tempfile.tempdir", folder):
        yield
        started = [process for process in psutil.process_iter() if environment_of(process).get("TMPDIR") == folder]
        _, running = psutil.wait_procs([process for process in started if not of_this_process(process)], timeout=10)
        ports = [at.laddr for at in psutil.Process().net_connections("inet") if at.status == psutil.CONN_LISTEN]
        files = [file for file in Path(folder).rglob("*") if file.is_file() and not STAYS.search(file.name)]
    assert (running, ports, files) == ([], [], [])
    shutil.rmtree(folder)


def environment_of(process: psutil.Process) -> dict[str, str]:
    with suppress(psutil.Error):
        return process.environ()
    return {}


def of_this_process(process: psutil.Process) -> bool:
    """Whether it is the fork server or the resource tracker of this process, which end with it."""
    with suppress(psutil.NoSuchProcess):
        own = re.search(r"multiprocessing\.(forkserver|resource_tracker)", " ".join(process.cmdline()))
        return process.ppid() == os.getpid() and own is not None
    return False


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse.at(tmp_path / "warehouse")


@pytest.fixture(scope="session")
def shared_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A warehouse with a small generated sample, for tests that only read it or add cells to it."""
    return Warehouse.at(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def sample_snapshot(shared_warehouse: Warehouse) -> Snapshot:
    return ingest("sample:2000", {}, 0.05, shared_warehouse)


@pytest.fixture(scope="session")
def sample_tables(sample_snapshot: Snapshot, shared_warehouse: Warehouse) -> list[BuiltTable]:
    return build_features(sample_snapshot, "published", 20, shared_warehouse)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Warehouse:
    """A warehouse with a smoke run of cold_start on a generated sample, its champions chosen and published.

    It is made once for the code and the packages as they are, and copied from pytest's cache after that.
    """
    folder = pytestconfig.cache.mkdir("trained")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of tests may be making it
        kept = folder / state_of_the_code()
        if not kept.exists():
            for old in folder.glob("*/"):
                shutil.rmtree(old)
            made = Warehouse.at(tmp_path_factory.mktemp("made"))
            train(made)
            shutil.copytree(made.root, folder / "half").rename(kept)  # whole or not there, whenever it is killed
        home = Warehouse.at(shutil.copytree(kept, tmp_path_factory.mktemp("trained"), dirs_exist_ok=True))
    publish(*prepare(home), home)  # where it is now
    return home


def state_of_the_code() -> str:
    """A digest of what `trained` depends on: every file of the project's code, and the versions of all packages."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(
        file for name in ("tasks", "sql") for file in (ROOT / name).rglob("*.*") if file.suffix != ".pyc"
    ):
        digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    digest.update(repr(sorted((one.name, one.version) for one in metadata.distributions())).encode())
    return digest.hexdigest()[:16]


def prepare(home: Warehouse) -> tuple[Snapshot, list[BuiltTable]]:
    snapshot = ingest("sample:3000", {}, 0.05, home)
    return snapshot, build_features(snapshot, "cold_start", 20, home)


def train(home: Warehouse) -> None:
    snapshot, tables = prepare(home)
    run = start_run(snapshot, "smoke", home)
    models = ["xgboost", "gradient_boosting", "logistic_regression", "svm", "multitask_tuned"]
    cells = plan_cells(["cold_start"], "smoke", models, ["all", "pca"], [42])
    outcomes = []
    with Processes(threads=1, timeout=300) as processes:
        for job in make_jobs(cells, tables, run.run_id, home, 1):
            ended = processes.run(train_cell, job, home.temporary("log"))
            outcomes.append(outcome_of(job, ended.status, result=job.result, error=ended.error))
    finish_run(run, "completed", outcomes, home)
    champions.choose(run.run_id, home, 1)


@pytest.fixture(scope="session")
def real_file() -> Path:
    path = os.environ.get("MUSIC_SOURCE")
    if not path or not Path(path).exists():
        pytest.skip("needs the real raw file: set MUSIC_SOURCE to its path")
    return Path(path)


@pytest.fixture(scope="session")
def catalogues() -> Path:
    path = os.environ.get("MUSIC_CATALOGUES")
    if not path or not Path(path).is_dir():
        pytest.skip("needs other people's catalogues: set MUSIC_CATALOGUES to their folder")
    return Path(path)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    outside = str(Path(tempfile.gettempdir()).parent)  # what it stores goes only when the process ends
    with ExitStack() as stack:
        with mock.patch("tempfile.tempdir", outside):
            stack.enter_context(prefect_test_harness(server_startup_timeout=240))
        yield

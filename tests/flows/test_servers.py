"""Prefect servers that go away, come back, or never answer; each a real one on loopback, of its own."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    temporary_settings,
)

from flows import server as prefect_server
from flows import temporary_server
from flows.server import available
from flows.temporary_server import TemporaryServer
from tasks.errors import UserError
from tasks.storage.warehouse import Warehouse
from tests.helpers.amounts import amount
from tests.helpers.commands import ROOT, clean_environment, in_training, query, run, scripted, started, until
from tests.helpers.pretenders import ANSWERS, DRIPS, front
from tests.helpers.runs import make_run

pytestmark = [pytest.mark.slow, pytest.mark.alone]
SLOW = ["--source", "sample:2000", "--models", "sleeps,linear", "--feature-sets", "all"]
OUTAGE = 15.0  # seconds that the cell takes during which the server is gone
QUICK = ["--source", "sample:2000", "--models", "linear", "--feature-sets", "all"]


class Server:
    """A Prefect server in a process of its own."""

    def __init__(self, home) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = clean_environment(PREFECT_HOME=str(home), PREFECT_SERVER_ANALYTICS_ENABLED="false")

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, env=self.environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self.answers, seconds=240.0, every=0.2)

    def answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", timeout=2.0).is_success
        return False

    def send(self, number: int) -> None:
        family = [self.process, *psutil.Process(self.process.pid).children(recursive=True)]
        for process in family:
            process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("prefect"))
    server.start()
    yield server
    server.send(signal.SIGKILL)


@pytest.fixture
def impatient(server, tmp_path) -> dict[str, str]:
    """Impatient: a minute of waiting says no more than a few seconds."""
    patience = {"PREFECT_CLIENT_MAX_RETRIES": "1", "PREFECT_API_REQUEST_TIMEOUT": "3"}
    places = {"MUSIC_WAREHOUSE": str(tmp_path / "warehouse"), "PREFECT_HOME": str(tmp_path / "home")}
    return scripted(clean_environment(PREFECT_API_URL=server.url, **places, **patience), tmp_path / "begun", OUTAGE)


@pytest.mark.long
def test_a_server_that_goes_away_and_comes_back_is_told_everything(server, impatient) -> None:
    with started(impatient | {"PREFECT_CLIENT_MAX_RETRIES": "6"}, *SLOW) as process:
        in_training(Path(impatient["SCRIPTED_FOLDER"]))
        server.send(signal.SIGKILL)
        server.start()
        printed = process.communicate(timeout=300)[0]
    assert process.returncode == 0, printed
    found = httpx.post(f"{server.url}/flow_runs/filter", json={"sort": "START_TIME_DESC", "limit": 1}).json()
    assert found[0]["state"]["type"] == "COMPLETED"
    of_run = {"flow_runs": {"id": {"any_": [found[0]["id"]]}}}

    def states() -> set[str]:
        return {task["state"]["type"] for task in httpx.post(f"{server.url}/task_runs/filter", json=of_run).json()}

    until(lambda: states() == {"COMPLETED"}, seconds=30.0)


@pytest.mark.long
def test_a_server_that_is_gone_for_good_costs_no_result(server, impatient) -> None:
    with started(impatient, *SLOW) as process:
        in_training(Path(impatient["SCRIPTED_FOLDER"]))
        server.send(signal.SIGKILL)
        printed = process.communicate(timeout=300)[0]
    server.start()
    _assert_published_without_prefect(process.returncode, printed, impatient)


@pytest.mark.long
def test_a_server_that_stops_answering_costs_no_result(server, impatient) -> None:
    with started(impatient, *SLOW) as process:
        in_training(Path(impatient["SCRIPTED_FOLDER"]))
        server.send(signal.SIGSTOP)
        try:
            printed = process.communicate(timeout=300)[0]
        finally:
            server.send(signal.SIGCONT)
    _assert_published_without_prefect(process.returncode, printed, impatient)


def _assert_published_without_prefect(code: int, printed: str, environment: dict[str, str]) -> None:
    assert code == 0, printed
    assert "Prefect's server does not answer any more" in printed
    assert "Traceback" not in printed
    home = Warehouse.at(environment["MUSIC_WAREHOUSE"])
    assert query(home, "select status from results.runs") == [("completed",)]
    assert query(home, "select count(*) from results.cells where status = 'ok'") == [(2,)]


@pytest.mark.long
def test_a_server_that_never_answers_is_told_before_anything_else(impatient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        done = run(impatient | {"PREFECT_API_URL": url}, *QUICK)
    assert done.returncode == 1
    assert f"PREFECT_API_URL is {url}, where no Prefect server answers (no answer within 30 s)" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("answer", [*ANSWERS, DRIPS])
def test_what_is_no_server_of_prefects_is_refused_in_time(answer, monkeypatch) -> None:
    """A proxy, a login page, a server that is only healthy, an older one: whatever a run could not begin on."""
    monkeypatch.setattr(prefect_server, "CHECK_SECONDS", amount(1.0, 4.0))
    patience = {PREFECT_API_REQUEST_TIMEOUT: amount(0.5, 2.0)}
    with front() as there, temporary_settings({PREFECT_API_URL: there.url, **patience}):
        there.pretend(answer)
        began = time.monotonic()
        with pytest.raises(UserError, match="where no Prefect server answers"), available("benchmark"):
            pass
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:1/api", "http://no.invalid/api"])
def test_an_address_that_is_none_is_refused(url) -> None:
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(UserError, match="PREFECT_API_URL"),
        available("benchmark"),
    ):
        pass


LOST = [
    ("benchmark", "no HTTP"),
    ("benchmark", "silent"),
    ("features", "login page"),
    ("upkeep", "healthy and broken"),
    ("predict", "no HTTP"),
]


@pytest.mark.long
@pytest.mark.parametrize(("flow", "answer"), LOST)
def test_a_server_that_turns_into_something_else_costs_no_command_its_results(
    flow, answer, server, impatient, trained, tmp_path
) -> None:
    options = {
        "benchmark": QUICK, "features": QUICK[:2], "upkeep": [],
        "predict": ["sample:100", "--out", str(tmp_path / "out.csv"), "--warehouse", str(trained.root)],
    }[flow]  # fmt: skip
    home = Warehouse.at(impatient["MUSIC_WAREHOUSE"])
    if flow == "upkeep":
        make_run(home, "sample:2000", ["linear"])
    impatient |= {"PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.05"}  # the first line is of the body's beginning
    with (
        front(server.port) as between,
        started(impatient | {"PREFECT_API_URL": between.url}, *options, flow=flow) as process,
    ):
        until(lambda: between.n_passed("POST /api/logs/") or process.poll() is not None, every=0.01)
        between.pretend(answer)
        printed = process.communicate(timeout=300)[0]
    assert process.returncode == 0, printed
    assert "Prefect's server does not answer any more" in printed
    assert "Traceback" not in printed and "Error logging" not in printed
    if flow == "predict":
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 101
    else:
        assert query(home, "select count(*) from raw.tracks") == [(2_000,)]


@pytest.mark.parametrize(
    ("flow", "options", "code"),
    [("features", ["--source", "sample:2000"], 1), ("upkeep", [], 1), ("query", ["select 1"], 0)],
)
def test_a_home_that_cannot_be_written_is_one_line_where_it_is_needed(flow, options, code, trained, tmp_path) -> None:
    (tmp_path / "file").touch()
    places = {"HOME": str(tmp_path / "file" / "home"), "MUSIC_WAREHOUSE": str(trained.root)}
    unset = {name: value for name, value in clean_environment(**places).items() if name != "PREFECT_HOME"}
    done = run(unset, *options, flow=flow)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == code, done.stderr
    assert code == 0 or "file/home/.prefect is not writable (Not a directory). Set PREFECT_HOME to" in done.stderr


def test_a_temporary_server_that_ends_before_it_answers_is_told_at_once(monkeypatch) -> None:
    monkeypatch.setattr(temporary_server, "COMMAND", ("-c", "raise SystemExit(7)"))
    server = TemporaryServer()
    monkeypatch.setattr(TemporaryServer, "of_this_process", lambda: server)
    with (
        temporary_settings({PREFECT_API_URL: None}),
        pytest.raises(UserError, match=r"did not start \(its process ended with exit code 7\)"),
        available("benchmark"),
    ):
        pass
    server.stop()


KILLED = """
import os, signal
from flows import temporary_server
temporary_server.COMMAND = ("-c", "import time; time.sleep(600)")
print(temporary_server.TemporaryServer()._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_temporary_server_ends_with_a_killed_command_whose_reader_does_not_wait_for_it(tmp_path) -> None:
    command = [sys.executable, "-c", KILLED]
    environment = clean_environment(PREFECT_HOME=str(tmp_path))
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    until(lambda: not psutil.pid_exists(int(ended.stdout)), seconds=30)


def test_ctrl_c_in_a_terminal_ends_a_command_and_then_its_temporary_server(tmp_path) -> None:
    places = {"PREFECT_HOME": str(tmp_path / "prefect"), "MUSIC_WAREHOUSE": str(tmp_path / "warehouse")}
    environment = scripted(clean_environment(**places), tmp_path / "training")
    with started(environment, *SLOW) as process:
        in_training(tmp_path / "training")
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "Prefect's server" not in output
    with sqlite3.connect(tmp_path / "prefect" / "prefect.db") as connection:
        assert connection.execute("select state_type from flow_run").fetchall() == [("CRASHED",)]

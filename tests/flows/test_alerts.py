"""On a real server of Prefect's each alert fires, upkeep follows the nightly run, and a secret comes from a block."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from threading import Thread
from typing import Any

import httpx
import polars as pl
import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import alerts
from tasks.orchestration import events
from tasks.orchestration.alerts import declared
from tests.helpers.commands import ROOT, carry_out, clean_environment, run, scripted, until
from tests.helpers.tracks import many
from tests.helpers.web import serving

pytestmark = pytest.mark.long
# Quick where Prefect waits by default; a run is late after 15 s.
IMPATIENT = {
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
EMITTING = """
import sys
from prefect.events.worker import EventsWorker
from tasks.orchestration.events import METRIC_WORSENED, Event, emit, source_drifted
from tasks.storage.warehouse import Warehouse

message = "1 of 2 figures got worse"
worse = Event(name=METRIC_WORSENED, resource=("run", "2"), message=message, payload={"run_id": "2"})
emit([worse, *source_drifted(["mean of tempo"], "songs.csv", Warehouse.at(sys.argv[1]))])
EventsWorker.drain_all(timeout=60)
"""
SMALL = {"source": "sample:1000", "protocol": "published", "feature_sets": ["all"]}


@contextmanager
def process(environment: dict[str, str], log: Path, *arguments: str) -> Iterator[None]:
    """A command of Prefect's in the background, ended by a signal at the end of the block."""
    command = [sys.executable, "-m", "prefect", *arguments]
    with log.open("ab") as out, subprocess.Popen(command, env=environment, cwd=ROOT, stdout=out, stderr=out) as started:
        try:
            yield
        finally:
            started.terminate()
            started.wait(60)


class Server:
    """A server, and what the tests ask it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.http = httpx.Client(base_url=url, timeout=60.0)
        own = clean_environment(PREFECT_API_URL=url, PREFECT_HOME=str(folder / "prefect"), **IMPATIENT)
        self.environment = scripted(own, folder / "begun", seconds=0.1)
        self.environment |= {
            "MUSIC_WAREHOUSE": str(folder / "warehouse"),
            "PYTHONPATH": f"{self.environment['PYTHONPATH']}:{ROOT}",
        }

    def found(self, kind: str, **wanted: object) -> Any:
        answer = self.http.post(f"/{kind}/filter", json=wanted)
        answer.raise_for_status()
        return answer.json()

    def deploy(self, *arguments: str) -> str:
        """What `make deploy` says; nothing is installed."""
        command = ["make", "--old-file=.venv/.installed", "deploy", f"PORT={self.http.base_url.port}", *arguments]
        done = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deployment(self, name: str) -> dict:
        [found] = self.found("deployments", deployments={"name": {"any_": [name]}})
        return found

    def start(self, name: str, **parameters: object) -> str:
        asked = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        answer = self.http.post(f"/deployments/{self.deployment(name)['id']}/create_flow_run", json=asked)
        answer.raise_for_status()
        return answer.json()["id"]

    def runs(self, name: str) -> list[dict]:
        return self.found("flow_runs", deployments={"name": {"any_": [name]}}, sort="START_TIME_ASC")

    def ended(self, run_id: str) -> str | None:
        """The name of a flow run's final state, once it has one."""
        state = self.http.get(f"/flow_runs/{run_id}").json()["state"]
        return state["name"] if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

    def feed(self, event: str) -> list[dict]:
        return self.found("events", filter={"event": {"name": [event]}}, limit=50)["events"]

    def fired(self, name: str) -> list[dict]:
        """The entries of an alert in the feed of events."""
        entries = self.feed("prefect.automation.triggered")
        return [one for one in entries if one["resource"]["prefect.resource.name"] == f"music-benchmark: {name}"]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("alerts")
    with create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    made = Server(folder, f"http://127.0.0.1:{port}/api")

    def answers() -> bool:
        try:
            return made.http.get("/health").is_success
        except httpx.HTTPError:
            return False

    with (
        process(made.environment, folder / "server.log", "server", "start", "--host", "127.0.0.1", "--port", str(port)),
        temporary_settings({PREFECT_API_URL: str(made.http.base_url).rstrip("/")}),
    ):
        until(answers, seconds=120.0, every=0.5)
        assert made.deploy().count("created: music-benchmark: ") == len(declared())
        yield made


@pytest.fixture
def worker(server) -> Iterator[None]:
    with process(server.environment, server.folder / "worker.log", "worker", "start", "--pool", "local-process"):
        yield


def test_setting_up_again_changes_nothing(server) -> None:
    assert server.deploy().count("unchanged: music-benchmark: ") == len(declared())
    names = sorted(one["name"] for one in server.found("automations"))
    assert names == sorted(["music-benchmark: upkeep follows nightly", *(one["name"] for one in declared())])


def test_upkeep_follows_a_nightly_run_whose_failed_cells_are_an_alert(server, worker) -> None:
    failed = len(server.fired("a run failed"))
    nightly = server.start("nightly", **SMALL, models=["linear", "raises"])
    until(lambda: server.ended(nightly), seconds=120.0, every=0.5)
    assert server.ended(nightly) == "CompletedWithFailures"
    until(lambda: server.fired("cells failed"), seconds=30.0, every=0.5)
    until(lambda: [server.ended(run["id"]) for run in server.runs("upkeep")] == ["Completed"], 120.0, every=0.5)
    assert len(server.fired("a run failed")) == failed


def test_a_run_that_failed_is_an_alert(server, worker) -> None:
    failed = server.start("features", source=str(server.folder / "missing.csv"))
    until(lambda: server.ended(failed), seconds=120.0, every=0.5)
    until(lambda: server.fired("a run failed"), seconds=30.0, every=0.5)


def test_a_run_that_no_worker_starts_is_an_alert(server) -> None:
    """The alert waits for ten seconds, not for a quarter of an hour."""
    [late] = [one for one in declared() if one["name"].endswith("late")]
    late["trigger"]["within"] = 10
    with get_client(sync_client=True) as client:
        [there] = client.read_automations_by_name(late["name"])
        client.update_automation(there.id, AutomationCore.model_validate(late))
        due = server.start("features")
        until(lambda: server.fired("a run is late"), seconds=90.0, every=0.5)
        client.delete_flow_run(due)
    assert carry_out(alerts.COMMAND).facts["alerts"][late["name"]] == "updated"


def test_a_champion_that_a_run_replaced_is_an_alert(server) -> None:
    environment = server.environment | {"MUSIC_WAREHOUSE": str(server.folder / "champions")}
    for protocol in ("label_free", "cold_start"):
        assert not server.fired("a champion was replaced")
        done = run(environment, "--source", "sample:1000", "--models", "linear", "--protocol", protocol)
        assert done.returncode == 0, done.stderr
    until(lambda: server.fired("a champion was replaced"), seconds=30.0, every=0.5)
    [event] = server.feed(events.CHAMPION_REPLACED)
    assert event["payload"]["task"] == "popularity"
    roles = {one["prefect.resource.role"] for one in event["related"]}
    assert {"run", "model", "flow-run", "flow"} <= roles


def test_a_source_that_drifted_is_an_alert(server) -> None:
    environment = server.environment | {"MUSIC_WAREHOUSE": str(server.folder / "drifted")}
    file = server.folder / "quieter.csv"
    for decibels in (0.0, 0.0, 8.0, 8.0):
        many(1000).with_columns(loudness=pl.col("loudness").cast(pl.Float64) - decibels).write_csv(file)
        done = run(environment, "--source", str(file), flow="features")
        assert done.returncode == 0, done.stderr
        assert ("DRIFT" in done.stderr) == (decibels > 0.0)
    until(lambda: server.fired("a source drifted"), seconds=30.0, every=0.5)
    found = [one for one in server.feed(events.SOURCE_DRIFTED) if one["payload"]["source"] == "quieter.csv"]
    [event] = found  # once for a snapshot
    assert "loudness" in event["payload"]["alarms"][0]


def test_a_worse_metric_and_a_drifted_source_are_alerts_that_a_block_sends(server, notified) -> None:
    # In a process of its own: Prefect's client of a process may be bound to an earlier test's server.
    emitted = subprocess.run(
        [sys.executable, "-c", EMITTING, str(server.folder / "w")],
        env=server.environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert emitted.returncode == 0, emitted.stderr
    until(lambda: len(notified) == 2, seconds=120.0, every=0.5)
    for name in ("a metric got worse", "a source drifted"):
        until(lambda name=name: server.fired(name), seconds=30.0, every=0.5)
    assert sorted((one["subject"], one["body"].strip()) for one in notified) == [
        ("music-benchmark: a metric got worse", "1 of 2 figures got worse"),
        ("music-benchmark: a source drifted", "songs.csv drifted: mean of tempo"),
    ]


@pytest.fixture
def notified(server) -> Iterator[list[dict]]:
    """What alerts send by a block to a service on loopback."""
    received: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        Thread(target=service.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{service.server_port}"
        sent = {"subject": "{{subject}}", "body": "{{body}}"}
        CustomWebhookNotificationBlock(name="team", url=url, json_data=sent).save("team", overwrite=True)
        assert set(carry_out(alerts.COMMAND, "--notify", "custom-webhook/team").facts["alerts"].values()) == {"updated"}
        yield received
        carry_out(alerts.COMMAND, "--notify", "none")
        service.shutdown()


def test_a_secret_of_a_block_reaches_the_run_alone(server, worker) -> None:
    """The work pool refers to it, and keeps that reference when everything is deployed again."""
    with serving() as web, get_client(sync_client=True) as client:
        web.files["tracks.csv"] = many(200).write_csv().encode()
        Secret(value=f"http://{web.address}/tracks.csv?token=to-ken").save("music-source", overwrite=True)
        template = client.read_work_pool("local-process").base_job_template
        template["variables"]["properties"]["env"]["default"] = {
            "MUSIC_SOURCE": "{{ prefect.blocks.secret.music-source }}"
        }
        client.update_work_pool("local-process", WorkPoolUpdate(base_job_template=template))
        server.deploy()
        done = server.start("features", protocol="published")
        until(lambda: server.ended(done), seconds=120.0, every=0.5)
        assert server.ended(done) == "Completed"
        assert "token=to-ken" in web.asked[-1][0]
    kept = [server.http.get("/work_pools/local-process").text, server.http.get(f"/flow_runs/{done}").text]
    assert not [text for text in (*kept, json.dumps(server.deployment("features"))) if "to-ken" in text]


def test_without_a_pull_step_the_installed_code_runs(server, worker, tmp_path) -> None:
    """As in a container: the run begins in an empty folder."""
    file = tmp_path / "prefect.yaml"
    file.write_text(f"pull: []\n{(ROOT / 'prefect.yaml').read_text(encoding='utf-8')}", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "prefect",
        "--no-prompt",
        "deploy",
        "--name",
        "features",
        "--prefect-file",
        str(file),
    ]
    subprocess.run(command, env=server.environment, cwd=ROOT, capture_output=True, check=True)
    assert not server.deployment("features")["pull_steps"]
    done = server.start("features", source="sample:1000", protocol="published")
    until(lambda: server.ended(done), seconds=120.0, every=0.5)
    assert server.ended(done) == "Completed"

"""The pages of the Prefect UI that people open, in a real browser: a real server, real runs, real deployments.

`MUSIC_PICTURES=docs/pictures` has the tests renew the README's pictures.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil
import pytest
import yaml
from playwright.sync_api import Page, expect

from flows.deployed import benchmark
from tasks.features.build import build_features
from tasks.ingest import sample
from tasks.ingest.read import ingest
from tasks.storage.warehouse import Warehouse
from tasks.training import train
from tasks.training.grid import plan_cells
from tasks.training.jobs import make_jobs
from tests.helpers.commands import ROOT, query
from tests.helpers.pages import needs_browser

PICTURES = os.environ.get("MUSIC_PICTURES")
MODELS = "knn,linear,lasso,xgboost,svm,logistic_regression,multitask"
PATIENCE = 30_000  # milliseconds, for a page to show what is expected of it
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
POOL = DEPLOYMENTS[0]["work_pool"]["name"]
SCRIPT = "<img src=x onerror=\"window.harmed='img'\"><script>window.harmed='script'</script>"
LINK = "[click](javascript:window.harmed='link') https://evil.example **bold** | `code` <b>b"
HARM = "img[src='x'], [onerror], a[href^='javascript'], a[href*='evil.example'], script:has-text('harmed')"

pytestmark = [
    pytest.mark.long,
    pytest.mark.alone,
    needs_browser,
]


@dataclass(frozen=True)
class Server:
    """A Prefect server of its own, and the environment in which commands talk to it."""

    url: str
    environment: dict[str, str]

    def popen(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *command], env=self.environment | environment, cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def find(self, kind: str, **filters: object) -> list[dict[str, Any]]:
        return httpx.post(f"{self.url}/api/{kind}/filter", json=filters, timeout=60).raise_for_status().json()

    def one(self, kind: str, **fields: str) -> str:
        """The id of the only object with these fields."""
        [found] = [one for one in self.find(kind) if all(one[name] == value for name, value in fields.items())]
        return found["id"]


@dataclass(frozen=True)
class World:
    """A server with two runs, one of the sample, one of a hostile file, and with the deployments."""

    server: Server
    home: Warehouse
    run: str
    hostile_run: str
    progress_on_the_way: float

    def artifact(self, key: str, run: str) -> str:
        return self.server.one("artifacts", key=key, flow_run_id=run)


@pytest.fixture(scope="module")
def starting(tmp_path_factory) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    unwanted = {"MUSIC_SOURCE", "MUSIC_WAREHOUSE"}
    environment = {name: value for name, value in os.environ.items() if name not in unwanted} | {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
    }
    server = Server(url, environment)
    process = server.popen("prefect", "server", "start", "--host", "127.0.0.1", "--port", port)
    try:
        yield server
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        process.terminate()
        process.communicate(timeout=30)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()


def wait_for(what: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError, httpx.HTTPStatusError, psutil.NoSuchProcess):
            if found := what():
                return found
        time.sleep(0.1)
    raise AssertionError(f"nothing after {seconds} s")


def train_before(home: Warehouse) -> None:
    """Two cells that the run will find trained."""
    snapshot = ingest("sample:2000", {}, 0.05, home)
    tables = build_features(snapshot, "published", 20, home)
    for job in make_jobs(plan_cells(["published"], "full", ["knn", "linear"], ["all"], [42]), tables, "0", home, 1):
        train.train_cell(job)


def hostile_file(folder: Path) -> Path:
    """Names, genres and values that are markup, in a file whose name is, too."""
    frame = pl.concat(sample.generate(1000, seed=1)).with_row_index("row")
    is_bad = pl.col("row").is_in([10, 20])
    genre = pl.when(pl.col("row") % 2 == 0).then(pl.lit(SCRIPT)).otherwise(pl.lit(LINK))
    frame = frame.with_columns(
        music_genre=genre,
        artist_name=pl.lit(SCRIPT) + pl.col("row").cast(pl.String),
        track_name=pl.lit(LINK),
        energy=pl.when(is_bad).then(pl.lit(SCRIPT)).otherwise(pl.col("energy")),
        key=pl.when(is_bad).then(pl.lit(LINK)).otherwise(pl.col("key")),
    )
    path = folder / "<img src=x onerror=window.harmed=1>[x](javascript:1).csv"
    frame.drop("row").write_csv(path)
    return path


@pytest.fixture(scope="module")
def world(starting, tmp_path_factory) -> Iterator[World]:
    server, folder = starting, tmp_path_factory.mktemp("ui")
    home, hostile_home = Warehouse.at(folder / "warehouse"), Warehouse.at(folder / "hostile")
    train_before(home)
    hostile = hostile_file(folder)
    wait_for(lambda: httpx.get(f"{server.url}/api/health", timeout=5).is_success)

    run = server.popen(
        "flows.benchmark", "--source", "sample:2000", "--models", MODELS,
        "--feature-sets", "all", "--budget", "full", "--workers", "2", MUSIC_WAREHOUSE=str(home.root),
    )  # fmt: skip
    worker = server.popen("prefect", "worker", "start", "--pool", POOL, "--type", "process")  # creates the pool
    moving = wait_for(lambda: [one["data"] for one in server.find("artifacts") if one["data"] not in {0, 100}])
    wait_for(lambda: _kill_net(run.pid))
    printed = run.communicate(timeout=300)[0]
    assert "killed by signal 9" in printed
    wait_for(lambda: server.find(f"work_pools/{POOL}/workers"))

    deploying = server.popen("prefect", "--no-prompt", "deploy", "--all")
    hostile_run = server.popen(
        "flows.benchmark", "--source", str(hostile), "--models", "linear", "--feature-sets", "all",
        "--protocol", "all", MUSIC_WAREHOUSE=str(hostile_home.root),
    )  # fmt: skip
    printed = hostile_run.communicate(timeout=300)[0]
    assert hostile_run.returncode == 0, printed
    printed = deploying.communicate(timeout=300)[0]
    assert deploying.returncode == 0, printed

    runs = {one["name"].partition(" of ")[0]: one["id"] for one in server.find("flow_runs")}
    yield World(server, home, runs["benchmark published"], runs["benchmark all"], moving[0])
    worker.terminate()
    worker.communicate(timeout=60)


def _kill_net(pid: int) -> bool:
    """Kill the process that trains the net: the only one that has TensorFlow's library in memory."""
    for child in psutil.Process(pid).children(recursive=True):
        if any("tensorflow" in mapped.path for mapped in child.memory_maps()):
            child.kill()
            return True
    return False


@pytest.fixture
def page(browser, world) -> Iterator[Page]:
    """A fresh page that reaches nothing but the server; no script may have failed on it when the test ends."""
    context = browser.new_context(viewport={"width": 1360, "height": 850}, base_url=world.server.url)
    context.route(lambda url: not url.startswith(world.server.url), lambda route: route.abort())
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    assert errors == []
    context.close()


def sees(page: Page, *texts: str) -> None:
    for text in texts:
        expect(page.locator("main, #app, body").get_by_text(text).first).to_be_visible(timeout=PATIENCE)


def picture(page: Page, name: str, height: int = 850) -> None:
    if PICTURES:
        page.wait_for_timeout(2_000)  # for what moves to rest
        page.set_viewport_size({"width": 1360, "height": height})
        page.screenshot(path=ROOT / PICTURES / f"{name}.png")


def test_the_list_of_runs(page, world) -> None:
    page.goto("/")
    expect(page).to_have_url(re.compile("/v2/dashboard"))
    page.get_by_role("link", name="Runs", exact=True).click()
    sees(page, "benchmark published", "benchmark all", "budget:full", "data:generated", "protocol:published")


def test_a_run_with_its_graph_and_logs(page, world) -> None:
    page.goto(f"/v2/runs/flow-run/{world.run}")
    expect(page.locator("canvas").first).to_be_visible(timeout=PATIENCE)
    sees(page, "benchmark published", "data:generated", "Beginning flow run 'benchmark published of sample:2000'")
    picture(page, "run", 640)
    page.get_by_role("combobox", name="log sort order").click()
    page.get_by_role("option", name="Newest to oldest").click()
    sees(page, "7 of 8 cells ok, 2 reused; report")
    page.get_by_role("tab", name="Parameters").click()
    sees(page, '"sample:2000"')


def test_task_runs_tell_their_cells_and_how_they_ended(page, world) -> None:
    page.goto(f"/v2/runs/flow-run/{world.run}?tab=TaskRuns")
    sees(page, "2 Reused", "1 Failed", "genre xgboost on all", "popularity linear on all", "model:xgboost")
    tags = {tuple(sorted(one["tags"])) for one in world.server.find("task_runs") if one["name"].startswith("multit")}
    assert ("model:multitask", "protocol:published", "task:multitask") in tags


def test_a_failed_cell_says_why(page, world) -> None:
    page.goto(f"/v2/runs/task-run/{world.server.one('task_runs', name='multitask on all (published, seed 42)')}")
    sees(page, "multitask on all (published, seed 42)", "Failed", "killed by signal 9 (SIGKILL)")


def test_a_reused_cell_says_so(page, world) -> None:
    cell = "genre knn on all (published, seed 42)"
    page.goto(f"/v2/runs/task-run/{world.server.one('task_runs', name=cell)}")
    sees(page, cell, "Reused", "model:knn")


def test_a_runs_artifacts(page, world) -> None:
    page.goto(f"/v2/runs/flow-run/{world.run}?tab=Artifacts")
    sees(page, "summary-sample", "leaderboard-genre-sample", "leaderboard-popularity-sample", "data-quality-sample")
    sees(page, "GENERATED DATA.", "8 of 8 cells done")
    keys = {one["key"] for one in world.server.find("artifacts") if one["flow_run_id"] == world.run}
    assert not keys & {"parity", "parity-sample", "leak-ledger", "leak-ledger-sample"}
    page.goto("/v2/artifacts/key/summary-sample")
    sees(page, "summary-sample", "GENERATED DATA.")


@pytest.mark.parametrize("version", ["/v2", ""], ids=["v2", "v1"])
@pytest.mark.parametrize("task", ["genre", "popularity"])
def test_the_leaderboards(task, version, page, world) -> None:
    page.goto(f"{version}/artifacts/artifact/{world.artifact(f'leaderboard-{task}-sample', world.run)}")
    metric = "accuracy" if task == "genre" else "rmse"
    rows = query(world.home, f"select model, {metric}, {metric}_low from results.leaderboard where task = '{task}'")
    assert len(rows) == (4 if task == "genre" else 3)
    for model, value, low in rows:
        sees(page, model, f"{value:.3f}", f"{low:.3f} ..")
    sees(page, metric, "95 % interval", "reused")
    if version and task == "genre":
        picture(page, "leaderboard", 560)


@pytest.mark.parametrize("version", ["/v2", ""], ids=["v2", "v1"])
def test_the_summary(version, page, world) -> None:
    page.goto(f"{version}/artifacts/artifact/{world.artifact('summary-sample', world.run)}")
    sees(page, "GENERATED DATA: ", "8: 7 ok (2 of them reused), 1 failed", "Best models, test split")
    sees(page, "genre and popularity multitask on all", "killed by signal 9 (SIGKILL)", world.home.client)
    if version:
        picture(page, "summary")


def test_the_data_quality(page, world) -> None:
    page.goto(f"/v2/artifacts/artifact/{world.artifact('data-quality-sample', world.run)}")
    [(missing, name)] = query(
        world.home, "select count(*), any_value(music_genre) from staging.stg_tracks where tempo is null"
    )
    sees(page, "tracks kept", "tempo", str(missing), name, "under more than one genre")


def test_progress_moves_and_ends(page, world) -> None:
    assert 0 < world.progress_on_the_way < 100
    page.goto(f"/v2/artifacts/artifact/{world.artifact('progress', world.run)}")
    sees(page, "8 of 8 cells done", "Progress: 100%")


def test_deployments_and_one_of_them(page, world) -> None:
    page.goto("/v2/deployments")
    sees(page, *(deployment["name"] for deployment in DEPLOYMENTS))
    picture(page, "deployments", 400)
    first = DEPLOYMENTS[0]
    path = f"/v2/deployments/deployment/{world.server.one('deployments', name=first['name'])}"
    page.goto(f"{path}?tab=Parameters")
    sees(page, first["name"], "source", *first["parameters"], *map(str, first["parameters"].values()))
    page.goto(f"{path}/run")  # the form in which a run's parameters are chosen
    properties = benchmark.parameters.properties
    sees(page, *(f"{name} (Optional)" for name in ("source", *first["parameters"])))
    sees(page, *(str(properties[name]["description"])[:30] for name in ("source", "cell_timeout")))


def test_the_work_pool(page, world) -> None:
    page.goto("/v2/work-pools")
    sees(page, POOL)
    page.goto(f"/v2/work-pools/work-pool/{POOL}?tab=Workers")
    sees(page, POOL, "Online")


@pytest.mark.parametrize("version", ["/v2", ""], ids=["v2", "v1"])
def test_markup_in_the_data_is_text(version, page, world) -> None:
    """In file names, genres and values; wherever a description or a page shows them."""
    shown = {
        "data-quality": ["<img src=x onerror", "<script>window.harmed='script'</script>", "[click](javascript"],
        "summary": ["<img src=x onerror=window.harmed=1>[x](javascript:1).csv"],
        "leaderboard-popularity": ["<img src=x onerror", "linear"],
        "leak-ledger": ["<img src=x onerror", "imputation", "linear"],
    }
    for key, texts in shown.items():
        page.goto(f"{version}/artifacts/artifact/{world.artifact(key, world.hostile_run)}")
        sees(page, *texts)
        assert page.locator(HARM).count() == 0, key
    for path in (f"/runs/flow-run/{world.hostile_run}", f"/runs/flow-run/{world.hostile_run}?tab=Artifacts"):
        page.goto(version + path)
        sees(page, "benchmark all")
        assert page.locator(HARM).count() == 0, path
    assert page.evaluate("window.harmed") is None


def test_pictures_are_small() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.png"))
    assert {"deployments", "leaderboard", "run", "summary"} <= {one.stem for one in pictures}
    assert all(one.stat().st_size < 150_000 for one in pictures)

from __future__ import annotations

import time
from uuid import uuid4

import httpx
import pytest
from prefect import flow, runtime, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from tasks.compute.progress import CellProgress
from tasks.orchestration import artifacts
from tasks.orchestration.pages import ArtifactPage
from tasks.specs import Cell

PAGES = [
    ArtifactPage("some-page", "about it", "# Title"),
    ArtifactPage("some-table", "figures", [{"model": "knn", "accuracy": "0.3"}]),
]
CELL = Cell(protocol="published", task="genre", model="knn", feature_set="all", seed=42, budget="smoke")


def of_run(run_id: str) -> list:
    with get_client(sync_client=True) as client:
        return client.read_artifacts(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))


def test_pages_are_posted_under_their_keys(prefect_server) -> None:
    @flow
    def posting() -> str:
        artifacts.post(lambda: PAGES)
        return str(runtime.flow_run.id)

    posted = {(one.key, one.type, one.description, one.data) for one in of_run(posting())}
    table = '[{"model": "knn", "accuracy": "0.3"}]'
    assert posted == {("some-page", "markdown", "about it", "# Title"), ("some-table", "table", "figures", table)}


def unreachable(*args, **options):
    raise httpx.ConnectError("no server")


def test_nothing_told_to_the_server_fails_a_run(prefect_server, monkeypatch, caplog) -> None:
    """Neither a server that is gone nor a page that cannot be made."""
    for name in ("create_markdown_artifact", "create_progress_artifact", "get_client"):
        monkeypatch.setattr(artifacts, name, unreachable)

    @flow
    def posting() -> str:
        artifacts.tag_run("a:b")
        artifacts.post(lambda: PAGES)
        artifacts.post(lambda: [1 / 0])
        with artifacts.progress_artifact(CellProgress(1)):
            pass
        return "done"

    assert posting() == "done"
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    told = [line.partition(" in the")[0] for line in warned]
    assert told == ["No tags", "No artifacts", "No artifacts", "No progress"]
    assert "ConnectError: no server" in warned[0]
    assert "ZeroDivisionError" in warned[2]


def test_runs_and_cells_are_tagged(prefect_server) -> None:
    @task
    def train() -> None:
        artifacts.tag_cell(CELL)

    @flow
    def tagging() -> str:
        artifacts.tag_run("budget:smoke", "data:generated")
        train()
        return str(runtime.flow_run.id)

    with get_client(sync_client=True) as client:
        run_id = tagging()
        assert client.read_flow_run(run_id).tags == ["budget:smoke", "data:generated"]
        deadline = time.monotonic() + 60
        expected = ["model:knn", "protocol:published", "task:genre"]
        tags: list[list[str]] = []
        while tags != [expected] and time.monotonic() < deadline:  # task runs are recorded from events, a little later
            found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
            tags = [sorted(one.tags) for one in found]
            time.sleep(0.1)
        assert tags == [expected]


def test_progress_is_followed_to_its_end(monkeypatch) -> None:
    told: list[tuple[float, str]] = []

    away = [1, 2]

    def tell(*what: object, description: str, key: str = "progress") -> object:
        assert key == "progress"
        if told and away:
            away.pop()
            raise httpx.ConnectError("the server is away for two updates")
        told.append((what[-1], description))
        return uuid4()

    monkeypatch.setattr(artifacts, "create_progress_artifact", tell)
    monkeypatch.setattr(artifacts, "update_progress_artifact", tell)

    def wait_for(line: str) -> None:
        deadline = time.monotonic() + 30
        while line not in [description for _, description in told] and time.monotonic() < deadline:
            time.sleep(0.001)

    progress = CellProgress(4)
    with artifacts.progress_artifact(progress, seconds=0.001):
        wait_for("0 of 4 cells done")
        progress.started(CELL)
        wait_for(f"0 of 4 cells done; training {CELL.title}")
        progress.ended(CELL)
        progress.done()
        wait_for("1 of 4 cells done")
        for _ in range(3):
            progress.done()
    assert (0.0, f"0 of 4 cells done; training {CELL.title}") in told
    assert (25.0, "1 of 4 cells done") in told
    assert told[-1] == (100.0, "4 of 4 cells done")


def test_an_unchanging_progress_is_told_once(monkeypatch) -> None:
    told: list[float] = []
    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda share, **_: told.append(share) or uuid4())
    monkeypatch.setattr(artifacts, "update_progress_artifact", lambda _, share, **__: told.append(share))
    with artifacts.progress_artifact(CellProgress(4), seconds=0.001):
        time.sleep(0.05)
    assert told == [0.0]


@pytest.mark.parametrize("total", [0, 1])
def test_nothing_to_do_is_done(total) -> None:
    assert CellProgress(total).share == 1.0 - total

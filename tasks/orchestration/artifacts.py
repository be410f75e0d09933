"""What a run sends to the Prefect server besides states: pages, progress and tags.

None of it may make a run fail or slow it down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import cast
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.context import TaskRunContext
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Crashed

from tasks.compute.progress import CellProgress
from tasks.orchestration.pages import ArtifactPage
from tasks.specs import Cell

UPDATE_SECONDS = 3.0  # between two updates of the progress artifact
PATIENCE_SECONDS = 10.0  # for the last update, when the cells are done


def tag_cell(cell: Cell) -> None:
    """Tags the current task run from within; its end state reports the tags to the server.

    Tags that a task run has before it starts are also concurrency limits: asking the server for them takes 30 ms per
    cell, and no cell would start while the server is away.
    """
    if context := TaskRunContext.get():
        context.task_run.tags = [f"task:{cell.task}", f"model:{cell.model}", f"protocol:{cell.protocol}"]


def mark_crashed(task_run_id: UUID, reason: str) -> None:
    """Sets a task run to crashed whose worker died without reporting it."""
    with _warning("end of a lost cell"), get_client(sync_client=True) as client:
        client.set_task_run_state(task_run_id, Crashed(message=reason), force=True)


def tag_run(*tags: str) -> None:
    """Adds tags to the current flow run, once it knows its data."""
    with _warning("tags"), get_client(sync_client=True) as client:
        client.update_flow_run(runtime.flow_run.id, tags=sorted({*runtime.flow_run.tags, *tags}))


def post(*makers: Callable[[], Iterable[ArtifactPage]]) -> None:
    """Makes pages and posts each as an artifact of the current run, under its stable key.

    If a maker fails, the pages of the others are posted. If the server does not answer, no more pages are posted.
    """
    pages: list[ArtifactPage] = []
    for make in makers:
        with _warning("artifacts"):
            pages += make()
    with _warning("artifacts"):
        for page in pages:
            if isinstance(page.content, str):
                create_markdown_artifact(page.content, key=page.key, description=page.description)
            else:
                create_table_artifact(page.content, key=page.key, description=page.description)


@contextmanager
def progress_artifact(progress: CellProgress, *, seconds: float = UPDATE_SECONDS) -> Iterator[None]:
    """Updates a progress artifact while the block runs; a separate thread does it, so cells do not wait for it."""
    ended = threading.Event()
    thread = threading.Thread(target=copy_context().run, args=(_follow, progress, ended, seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(PATIENCE_SECONDS)


def _follow(progress: CellProgress, ended: threading.Event, seconds: float) -> None:
    with _warning("progress"):
        sent = progress.share, progress.line
        artifact = cast("UUID", create_progress_artifact(100 * sent[0], key="progress", description=sent[1]))
        while not ended.is_set():
            ended.wait(seconds)
            now = progress.share, progress.line
            if now != sent:
                with suppress(Exception):  # a server that is away may come back
                    update_progress_artifact(artifact, 100 * now[0], description=now[1])
                    sent = now


@contextmanager
def _warning(what: str) -> Iterator[None]:
    """Turns any failure into a warning in the run's log, and retries only once if the server does not answer."""
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):
            yield
    except Exception as error:  # noqa: BLE001 - the run goes on after any error
        with suppress(Exception):
            get_run_logger().warning("No %s in the Prefect UI: %s: %s", what, type(error).__name__, error)

"""What is told to the Prefect server beside states: pages, progress and tags. None of it may fail or slow a run."""

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
from tasks.orchestration.pages import Page
from tasks.specs import Cell

UPDATE_SECONDS = 3.0  # between two updates of the progress artifact
PATIENCE_SECONDS = 10.0  # for the last of them, when the cells are done


def tag_cell(cell: Cell) -> None:
    """Tag the current task run from within, for its end to report; the budget and kind of data are its flow run's tags.

    Tags it is given before it starts are concurrency limits, too: asking the server for them takes 30 ms a cell, and
    no cell would start while the server is away.
    """
    if context := TaskRunContext.get():
        context.task_run.tags = [f"task:{cell.task}", f"model:{cell.model}", f"protocol:{cell.protocol}"]


def mark_crashed(task_run_id: UUID, reason: str) -> None:
    """Have a task run whose worker died, and could not say so, end."""
    with _warning("end of a lost cell"), get_client(sync_client=True) as client:
        client.set_task_run_state(task_run_id, Crashed(message=reason), force=True)


def tag_run(*tags: str) -> None:
    """Add tags to the current flow run: what a run is of is known once it has begun."""
    with _warning("tags"), get_client(sync_client=True) as client:
        client.update_flow_run(runtime.flow_run.id, tags=sorted({*runtime.flow_run.tags, *tags}))


def post(*makers: Callable[[], Iterable[Page]]) -> None:
    """Make pages and post each as an artifact of the current run, under its stable key.

    Pages that cannot be made leave those of other makers alone; a server that does not answer is not asked again.
    """
    pages: list[Page] = []
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
    """An artifact that follows `progress` while the block runs, from a thread of its own: cells do not wait for it."""
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
        told = progress.share, progress.line
        artifact = cast("UUID", create_progress_artifact(100 * told[0], key="progress", description=told[1]))
        while not ended.is_set():
            ended.wait(seconds)
            now = progress.share, progress.line
            if now != told:
                with suppress(Exception):  # a server that is away may come back
                    update_progress_artifact(artifact, 100 * now[0], description=now[1])
                    told = now


@contextmanager
def _warning(what: str) -> Iterator[None]:
    """Make any failure a warning in the run's log, soon: a server that is gone, a page that cannot be made."""
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):
            yield
    except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
        with suppress(Exception):
            get_run_logger().warning("No %s in the Prefect UI: %s: %s", what, type(error).__name__, error)

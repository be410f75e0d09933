"""Checks Prefect's server before a flow, starts a temporary one if none is configured, and copes with its loss.

Prefect shows what a run does, but no result depends on it. So the server is checked once, before anything is trained,
for what a run needs. If it is lost later, a line says so and no result is lost.
"""

from __future__ import annotations

import inspect
import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from copy import copy
from functools import wraps
from typing import Any

import httpx
import prefect
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectSignal
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)

from flows.cli import tell
from flows.prefect_flow import flow_of
from flows.temporary_server import TemporaryServer
from tasks.errors import UserError, one_line
from tasks.storage.urls import public_name

CHECK_SECONDS = 30.0  # for all requests of the check before a run
LOOK_SECONDS = 5.0  # between two health requests, and for each; the server is lost if two of them fail
RETURN_SECONDS = 20.0  # for a lost server to come back at the end of a run


def run_with_prefect(
    function: Callable[..., Any], options: dict[str, Any], before: Callable[[], None] = lambda: None
) -> Any:
    """Runs a function as a flow for its command. Returns its result, even if Prefect's server is lost.

    Args: options: the function's parameters. before: called first, while a temporary server starts.

    Raises: UserError: there is no suitable server. Any error that the body raises.
    """
    flow = flow_of(function)
    with ExitStack() as stack:
        url = stack.enter_context(available(flow.name, before))
        logging.raiseExceptions = False  # else Prefect's log prints on standard error what another server answers
        watch = stack.enter_context(_Watch(url))
        ending = _Ending(watch, stack)
        try:
            state: Any = _kept(flow, ending)(**options, return_state=True)
        except (Exception, PrefectSignal) as error:  # Prefect's own errors: those of the body are in the state
            lost = f"Prefect's server does not answer any more ({_reason(error)})"
            if not ending.known.done():
                raise UserError(f"{lost}. Start it and try again.") from error
            tell(f"{lost}: its UI does not show how this run ended.")
    return ending.known.result() if ending.known.done() else state.result()


class _Ending:
    """Keeps the result of a flow's body, because Prefect returns it only if its server answers to the end.

    At the end of the body, a lost server has some time to come back. After that, each of the last calls is tried once.
    """

    def __init__(self, watch: _Watch, stack: ExitStack) -> None:
        self.known: Future[Any] = Future()
        self._watch, self._stack = watch, stack

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()  # the flow is sent with its tasks to Dask workers, which do not run it

    def of(self, call: Callable[[], Any]) -> Any:
        """Calls the body. Returns its result. Raises: what it raises."""
        try:
            self.known.set_result(call())
        except BaseException as error:
            self.known.set_exception(error)
            if not isinstance(error, Exception):  # a signal must end the process soon
                self._try_once()
                raise
        if not self._watch.comes_back():
            self._try_once()
        return self.known.result()

    def _try_once(self) -> None:
        self._stack.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))


def _kept(flow: Flow[..., Any], ending: _Ending) -> Flow[..., Any]:
    """Returns a copy of the flow that keeps its result in `ending`."""
    body = flow.fn

    @wraps(body)
    def kept(*args: Any, **kwargs: Any) -> Any:
        return ending.of(lambda: body(*args, **kwargs))

    # Else Prefect would look up the names of types in this module.
    kept.__signature__ = inspect.signature(body, eval_str=True)  # type: ignore[attr-defined]
    flow = copy(flow)
    flow.fn = kept
    return flow


class _Watch:
    """Checks the server's health at intervals during the block; reports when it stops answering or answers again."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/health"
        self._ended, self._answers = threading.Event(), threading.Event()
        self._answers.set()

    def __enter__(self) -> _Watch:
        threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def comes_back(self) -> bool:
        """Returns whether the server answers, now or within RETURN_SECONDS."""
        if not self._answers.is_set():
            tell(f"Waiting up to {RETURN_SECONDS:g} s for Prefect's server to come back ...")
        return self._answers.wait(RETURN_SECONDS)

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            answers = self._ask() or self._ask()
            if answers != self._answers.is_set() and not self._ended.is_set():
                again = "answers again" if answers else "does not answer. No result depends on it"
                tell(f"Prefect's server {again}.")
                (self._answers.set if answers else self._answers.clear)()

    def _ask(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(self._url, timeout=LOOK_SECONDS).is_success
        return False


@contextmanager
def available(flow_name: str, before: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Makes sure that a suitable server answers, for the block. Yields: the URL of its API.

    Args: before: called while the server is asked, or a temporary one starts.

    Raises: UserError: no server answers, or not a suitable one.
    """
    if configured := PREFECT_API_URL.value():
        if reason := _Asking(flow_name).reason(CHECK_SECONDS):
            raise UserError(
                f"PREFECT_API_URL is {public_name(configured)}, where no Prefect server answers ({reason}). "
                "Start one (`make server`), or unset PREFECT_API_URL to use a temporary one."
            )
        before()
        yield configured
        return
    temporary = TemporaryServer.of_this_process()
    tell("Starting Prefect's temporary server (about 10 s; `make server` once and PREFECT_API_URL avoid it) ...")
    with temporary_settings({PREFECT_API_URL: temporary.url}):
        asking = _Asking(flow_name, temporary)
        before()
        if reason := asking.reason():
            raise UserError(f"Prefect's temporary server did not start ({reason}). Try `make server`.")
        yield temporary.url


class _Asking:
    """Checks the configured server, in a separate thread, for what a run of a flow needs."""

    def __init__(self, flow_name: str, temporary: TemporaryServer | None = None) -> None:
        self._flow_name = flow_name
        self._temporary = temporary
        self._failed: str | None = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._ask,), daemon=True)
        self._thread.start()

    def reason(self, seconds: float = threading.TIMEOUT_MAX) -> str | None:
        """Returns why there is no suitable server, or None. Waits up to `seconds` for the check."""
        self._thread.join(seconds)
        return f"no answer within {CHECK_SECONDS:g} s" if self._thread.is_alive() else self._failed

    def _ask(self) -> None:
        """Reads from the server, and writes what every run of the flow writes first."""
        patience = {"timeout": CHECK_SECONDS}  # a busy server has this long for each request
        try:
            if self._temporary:
                self._temporary.wait()
            with (
                temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}),
                get_client(sync_client=True, httpx_settings=patience) as client,
            ):
                if PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED.value():
                    _check_version(client.api_version())
                client.read_flow_runs(limit=1)
                client.create_flow_from_name(self._flow_name)
        except Exception as error:  # noqa: BLE001 - anything may answer there: a proxy, a login page
            self._failed = _reason(error)


def _check_version(found: str) -> None:
    """Checks the server's version. Raises: UserError: it is older than this client, except in its patch version."""
    own, its = (tuple(map(int, re.findall(r"\d+", text)[:2])) for text in (prefect.__version__, found))
    if its < own or its[:1] != own[:1]:
        raise UserError(f"version {found}; {own[0]}.{own[1]} or a newer {own[0]} is needed")


def _reason(error: BaseException) -> str:
    """Returns an error of Prefect's client in a few words: its own texts are long and quote the answer."""
    if isinstance(error, UserError | RuntimeError):
        return one_line(error)
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code} to {error.request.method} {error.request.url.path}"
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
        return type(error).__name__
    return f"what it answers is not Prefect's, {type(error).__name__}"

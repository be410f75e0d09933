"""Checks Prefect's server before a flow, starts a temporary one if none is configured, and copes with its loss.

Prefect shows what a run does, but no result depends on it. So the server is checked once, before anything is trained,
for what a run needs. If it is lost later, a line says so and no result is lost.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import subprocess
import tempfile
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
import psutil
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectSignal
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    PREFECT_HOME,
    temporary_settings,
)

from flows.cli import tell
from flows.prefect_flow import flow_of
from tasks.errors import UserError, one_line
from tasks.storage.urls import public_name

CHECK_SECONDS = 30.0  # for all requests of the check before a run
LOOK_SECONDS = 5.0  # between two health requests, and for each; the server is lost if two of them fail
RETURN_SECONDS = 20.0  # for a lost server to come back at the end of a run
STARTED_AGAIN = 3  # after this exit code Prefect restarts its temporary server, without end: its port may be taken
HOME_BYTES = 4 << 20  # the least that Prefect's server needs to write there


def run_with_prefect(
    function: Callable[..., Any], options: dict[str, Any], before: Callable[[], None] = lambda: None
) -> Any:
    """Runs a function as a flow for its command. Returns its result, even if Prefect's server is lost.

    Args: options: the function's parameters. before: called first, while a temporary server starts.

    Raises: UserError: there is no suitable server. Any error that the body raises.
    """
    flow = flow_of(function)
    with available(flow.name) as server:
        before()
    logging.raiseExceptions = False  # else Prefect's log prints on standard error what another server answers
    with ExitStack() as stack:
        watch = stack.enter_context(_Watch(server.url))
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
def available(flow_name: str) -> Iterator[_Asking]:
    """Makes sure that a suitable server answers; a temporary one starts while the block runs."""
    if url := PREFECT_API_URL.value():
        asking = _Asking(flow_name)
        if reason := asking.reason(CHECK_SECONDS):
            raise UserError(
                f"PREFECT_API_URL is {public_name(url)}, where no Prefect server answers ({reason}). "
                "Start one (`make server`), or unset PREFECT_API_URL to use a temporary one."
            )
        yield asking
        return
    _check_home()
    tell("Starting Prefect's temporary server (about 30 s; `make server` once and PREFECT_API_URL avoid it) ...")
    asking = _Asking(flow_name)
    yield asking
    if reason := asking.reason():
        raise UserError(f"Prefect's temporary server did not start ({reason}). Try `make server`.")
    _end_server_with_this_process()


class _Asking:
    """Checks the server in a separate thread for what a run of a flow needs; starts a temporary one if needed."""

    def __init__(self, flow_name: str) -> None:
        self.url = ""
        self._flow_name = flow_name
        self._failed: str | None = None
        self._temporary: Any = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._ask,), daemon=True)
        self._thread.start()

    def reason(self, seconds: float = threading.TIMEOUT_MAX) -> str | None:
        """Returns why there is no suitable server, or None. Waits up to `seconds` for the check."""
        ended: dict[int, int] = {}
        while seconds > 0:
            self._thread.join(min(seconds, 1.0))
            seconds -= 1.0
            if not self._thread.is_alive():
                return self._failed
            process = self._temporary and self._temporary.server_process
            if process and process.poll() is not None:
                ended[process.pid] = process.poll()
                if len(ended) > 1 or STARTED_AGAIN not in ended.values():
                    return f"its process ended with exit code {process.poll()}"
        return f"no answer within {CHECK_SECONDS:g} s"

    def _ask(self) -> None:
        """Reads from the server, and writes what every run of the flow writes first."""
        patience: dict[str, Any] | None = {"timeout": CHECK_SECONDS}  # a busy server has this long for each request
        if not PREFECT_API_URL.value():
            from prefect.server.api.server import SubprocessASGIServer

            self._temporary, patience = SubprocessASGIServer(), None  # the same object that a client would use
        try:
            with (
                temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}),
                get_client(sync_client=True, httpx_settings=patience) as client,
            ):
                self.url = str(client.api_url)
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


def _check_home() -> None:
    """Checks Prefect's home directory. Raises: UserError: the temporary server cannot write there."""
    home = PREFECT_HOME.value()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(bytes(HOME_BYTES))
    except OSError as error:
        raise UserError(
            f"Prefect's home {home} is not writable ({error.strerror}). Set PREFECT_HOME to a folder that is, "
            "or PREFECT_API_URL to a server (`make server`)."
        ) from error


def _reason(error: BaseException) -> str:
    """Returns an error of Prefect's client in a few words: its own texts are long and quote the answer."""
    if isinstance(error, UserError | RuntimeError):
        return one_line(error)
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code} to {error.request.method} {error.request.url.path}"
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
        return type(error).__name__
    return f"what it answers is not Prefect's, {type(error).__name__}"


def _end_server_with_this_process() -> None:
    """Ends the temporary server even if this process is killed: Prefect ends it only at a regular exit."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # other children come and go
            if any("prefect.server.api.server:create_app" in part for part in child.cmdline()):
                watch = f"while kill -0 {os.getpid()}; do sleep 1; done; kill {child.pid}"
                null = subprocess.DEVNULL  # a reader of this process's output must not wait for the watch
                subprocess.Popen(["sh", "-c", watch], stdout=null, stderr=null, start_new_session=True)

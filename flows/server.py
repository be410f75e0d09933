"""Prefect's server: found fit before a command's flow, started where none is configured, done without where it is lost.

Prefect shows what a run does; nothing that a run makes depends on it. So it is asked once, before anything is trained,
for what a run needs of it, and a server that is lost later costs a line, not a result.
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
from tasks.errors import UserError, one_line
from tasks.storage.urls import public_name

CHECK_SECONDS = 30.0  # for all that a server is asked before a run
LOOK_SECONDS = 5.0  # between two looks at whether it still answers, and for each; it is lost if it fails two of them
RETURN_SECONDS = 20.0  # for one that is lost to come back, when there is nothing left to do but to tell it
STARTED_AGAIN = 3  # with this exit code Prefect starts its temporary server again, for ever: its port may be taken
HOME_BYTES = 4 << 20  # at least so much Prefect's server needs to write there


def run_with_prefect(flow: Flow[..., Any], options: dict[str, Any], ahead: Callable[[], None] = lambda: None) -> Any:
    """Run a flow for its command. Returns: what its body returned, also if Prefect could not be told of it.

    Args: options: the flow's parameters. ahead: what is done first, while a temporary server starts.
    Raises: UserError: there is no server to begin on. Whatever the body raises.
    """
    with available(flow.name) as server:
        ahead()
    logging.raiseExceptions = False  # or Prefect's log tells on standard error whatever a server answers in its place
    with ExitStack() as stack:
        watch = stack.enter_context(_Watch(server.url))
        ending = _Ending(watch, stack)
        try:
            state: Any = _kept(flow, ending)(**options, return_state=True)
        except (Exception, PrefectSignal) as error:  # Prefect's own: what a body raises is in the state
            lost = f"Prefect's server does not answer any more ({_reason(error)})"
            if not ending.known.done():
                raise UserError(f"{lost}. Start it and try again.") from error
            tell(f"{lost}: its UI does not show how this run ended.")
    return ending.known.result() if ending.known.done() else state.result()


class _Ending:
    """How a flow's body ended: Prefect returns that only if its server is there to the end.

    A server that is lost is given some time to come back then, and after that one try for each of the last calls.
    """

    def __init__(self, watch: _Watch, stack: ExitStack) -> None:
        self.known: Future[Any] = Future()
        self._watch, self._stack = watch, stack

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()  # the flow travels with its tasks to Dask's workers, which do not run it

    def of(self, call: Callable[[], Any]) -> Any:
        """Call the body. Returns: its result. Raises: what it raises."""
        try:
            self.known.set_result(call())
        except BaseException as error:
            self.known.set_exception(error)
            if not isinstance(error, Exception):  # a signal is to end this soon
                self._try_once()
                raise
        if not self._watch.comes_back():
            self._try_once()
        return self.known.result()

    def _try_once(self) -> None:
        self._stack.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))


def _kept(flow: Flow[..., Any], ending: _Ending) -> Flow[..., Any]:
    """The flow, how its body ends kept in `ending`."""
    body = flow.fn

    @wraps(body)
    def kept(*args: Any, **kwargs: Any) -> Any:
        return ending.of(lambda: body(*args, **kwargs))

    # Prefect would look the names of types up in this module.
    kept.__signature__ = inspect.signature(body, eval_str=True)  # type: ignore[attr-defined]
    flow = copy(flow)
    flow.fn = kept
    return flow


class _Watch:
    """Looks now and then, while the block lasts, whether the server answers; tells when it does no more, or again."""

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
        """Whether the server answers, by now or within some time."""
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
    """See to it that a server is there that a run of the flow can begin on; a temporary one starts meanwhile."""
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
    """Asks the server, from a thread of its own, for what a run of a flow needs of it; a temporary one it starts."""

    def __init__(self, flow_name: str) -> None:
        self.url = ""
        self._flow_name = flow_name
        self._failed: str | None = None
        self._temporary: Any = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._ask,), daemon=True)
        self._thread.start()

    def reason(self, seconds: float = threading.TIMEOUT_MAX) -> str | None:
        """Why there is no such server, if there is none; waits so long to know."""
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
        """Read, and write what every run of the flow writes first."""
        patience: dict[str, Any] | None = {
            "timeout": CHECK_SECONDS
        }  # with a busy server, within that for all it is asked
        if not PREFECT_API_URL.value():
            from prefect.server.api.server import SubprocessASGIServer

            self._temporary, patience = SubprocessASGIServer(), None  # the one that a client starts
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
        except Exception as error:  # noqa: BLE001 - whatever answers there: a proxy, a login page
            self._failed = _reason(error)


def _check_version(found: str) -> None:
    """Servers take older clients, but not newer ones. Raises: UserError: it is older, but for a patch."""
    own, its = (tuple(map(int, re.findall(r"\d+", text)[:2])) for text in (prefect.__version__, found))
    if its < own or its[:1] != own[:1]:
        raise UserError(f"version {found}; {own[0]}.{own[1]} or a newer {own[0]} is needed")


def _check_home() -> None:
    """Raises: UserError: Prefect's temporary server could keep nothing in its home."""
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
    """An error of Prefect's client in a few words: its texts run over lines and quote what was answered."""
    if isinstance(error, UserError | RuntimeError):
        return one_line(error)
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code} to {error.request.method} {error.request.url.path}"
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
        return type(error).__name__
    return f"what it answers is not Prefect's, {type(error).__name__}"


def _end_server_with_this_process() -> None:
    """Have the temporary server ended even if this process is killed: Prefect ends it only at a regular exit."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # others come and go
            if any("prefect.server.api.server:create_app" in part for part in child.cmdline()):
                watch = f"while kill -0 {os.getpid()}; do sleep 1; done; kill {child.pid}"
                null = subprocess.DEVNULL  # who reads what this process prints is not to wait for the watch
                subprocess.Popen(["sh", "-c", watch], stdout=null, stderr=null, start_new_session=True)

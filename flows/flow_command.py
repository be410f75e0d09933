"""What the commands that run a Prefect flow share: its parameters, Prefect's temporary server, and its end."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import httpx
import psutil
from prefect import Flow
from prefect.events.worker import EventsWorker
from prefect.exceptions import ParameterTypeError
from prefect.logging.handlers import APILogWorker

from flows.cli import FINISHED, Interrupted, exit_code, tell
from tasks.addresses import has_secrets, public_name
from tasks.errors import UserError

EVENT_SECONDS = 20.0


def parameters(parser: argparse.ArgumentParser, flow: Flow[..., Any]) -> dict[str, Any]:
    """The command line's options, as parameters of its flow.

    Prefect keeps a run's parameters, so a source URL that holds secrets goes by the environment instead.

    Raises: UserError: the flow's types refuse an option, or it is no text that Prefect could keep.
    """
    options = vars(parser.parse_args())
    for name, value in options.items():
        if isinstance(value, str) and value.encode(errors="ignore") != os.fsencode(value):
            raise UserError(f"--{name} {value}: is not text in UTF-8. Give the file, or a link to it, another name.")
    if options.get("source") and has_secrets(options["source"]):
        os.environ["MUSIC_SOURCE"] = options["source"]
        options["source"] = None
    try:
        flow.validate_parameters(options)
    except ParameterTypeError as error:
        reason = str(error).splitlines()[1].removeprefix(" - ").replace("Value error, ", "")
        name, _, message = reason.partition(": ")
        raise UserError(f"--{name.split('.')[0].replace('_', '-')}: {message}") from error
    return options


def run_command(command: Callable[[], int], kept: str = FINISHED) -> NoReturn:
    """As flows.cli.run_command, when Prefect's server has been told what happened. Args: as flows.cli.exit_code."""
    code = exit_code(command, kept)
    with suppress(Interrupted):
        if _are_events_delivered():
            sys.exit(code)
    tell("Prefect's server did not take all that happened: its UI is not complete.")
    os._exit(code)  # a regular exit would wait for it, for minutes


@contextmanager
def prefect_server() -> Any:
    """Start Prefect's temporary server, if none is configured, while the block does something useful."""
    from prefect.settings import PREFECT_API_URL

    if url := PREFECT_API_URL.value():
        _check_server(url)
        yield
        return
    tell("Starting Prefect's temporary server (about 30 s; `make server` once and PREFECT_API_URL avoid it) ...")
    failure: list[BaseException] = []
    thread = threading.Thread(target=_start_server, args=(failure,), daemon=True)
    thread.start()
    yield
    thread.join()
    if failure:
        raise UserError(f"Prefect's temporary server did not start ({failure[0]}). Try `make server`.")


def _check_server(url: str) -> None:
    try:
        httpx.get(f"{url}/health", timeout=10.0).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(
            f"PREFECT_API_URL is {public_name(url)}, where no Prefect server answers ({type(error).__name__}). "
            "Start one (`make server`), or unset PREFECT_API_URL to use a temporary one."
        ) from error


def _are_events_delivered() -> bool:
    """Give Prefect's client some time to deliver the states and logs that it has queued."""
    return not any(queue.drain_all(timeout=EVENT_SECONDS).not_done for queue in (EventsWorker, APILogWorker))  # type: ignore[union-attr]


def _end_server_with_this_process() -> None:
    """Have the temporary server ended even if this process is killed: Prefect ends it only at a regular exit."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # others come and go
            if any("prefect.server.api.server:create_app" in part for part in child.cmdline()):
                watch = f"while kill -0 {os.getpid()}; do sleep 1; done; kill {child.pid}"
                null = subprocess.DEVNULL  # who reads what this process prints is not to wait for the watch
                subprocess.Popen(["sh", "-c", watch], stdout=null, stderr=null, start_new_session=True)


def _start_server(failure: list[BaseException]) -> None:
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.hello()
        _end_server_with_this_process()
    except Exception as error:  # noqa: BLE001 - told to the user by the main thread
        failure.append(error)

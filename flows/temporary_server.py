"""Prefect's temporary server: a process that a command starts where none is configured, and that ends with it.

Prefect's own client would start such a server itself, but only once it is used, and after it has imported all of the
server. Here it starts first, while the command imports what it needs. Its signals are its own: Ctrl-C in a terminal
ends the command, which reports that to the server.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, get_current_settings

from tasks.errors import UserError

HOME_BYTES = 4 << 20  # the least that Prefect's server needs to write there
START_SECONDS = 120.0  # for its first answer; a busy machine takes several times as long as a quiet one
LOOK_SECONDS = 1.0  # for a request while it starts, which waits in the queue of its port
STOP_SECONDS = 5.0  # for its process to end
COMMAND = ("-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--log-level", "error")
# As Prefect starts its own: without pages, and without services that a single run does not need.
ENVIRONMENT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
WATCH = "read nothing; kill {}"  # of a shell, because it takes 1 MiB; its input ends with this process, even if killed


def start() -> None:
    """Starts the server of this process if no server is configured; slow imports can go on meanwhile.

    Raises: UserError: Prefect's home directory cannot be written.
    """
    if not PREFECT_API_URL.value():
        TemporaryServer.of_this_process()


class TemporaryServer:
    """A Prefect server on loopback, on a free port, with the database in Prefect's home directory."""

    def __init__(self) -> None:
        """Starts the process. Raises: UserError: Prefect's home directory cannot be written."""
        _check_home()
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        with socket.create_server(("127.0.0.1", 0)) as listening:  # the process inherits the port, which is never free
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
            self._process = subprocess.Popen(
                [sys.executable, *COMMAND, "--fd", str(listening.fileno())],
                env=os.environ | ENVIRONMENT | settings,
                pass_fds=(listening.fileno(),),
                start_new_session=True,
            )
        atexit.register(self.stop)
        null = subprocess.DEVNULL  # a reader of this process's output must not wait for the watch
        self._watch = subprocess.Popen(
            ["sh", "-c", WATCH.format(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=null,
            stderr=null,
            start_new_session=True,
        )

    @staticmethod
    @cache
    def of_this_process() -> TemporaryServer:
        """Returns the server of this process, started if need be. Raises: UserError: as at its start."""
        return TemporaryServer()

    def wait(self) -> None:
        """Waits until the server answers. Raises: RuntimeError: its process ended, or took too long."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError(f"its process ended with exit code {self._process.returncode}")
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=LOOK_SECONDS).is_success:
                    return
        raise RuntimeError(f"no answer within {START_SECONDS:g} s")

    def stop(self) -> None:
        """Ends the process, as it would end with this one."""
        self._watch.communicate()  # closes its input
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


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

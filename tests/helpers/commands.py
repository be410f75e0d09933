"""The commands as real processes, and what they published."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

import duckdb
import psutil
import pytest

from flows.options import Command, Outcome, parsed
from tasks.errors import UserError
from tasks.storage.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[2]


def query(warehouse: Warehouse, sql: str) -> list[tuple]:
    with duckdb.connect(str(warehouse.database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def command(*options: str, flow: str = "benchmark") -> list[str]:
    return [sys.executable, "-m", f"flows.{flow}", *options]


def run(environment: dict[str, str], *options: str, flow: str = "benchmark") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options, flow=flow),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def refusal(*options: str, flow: str = "benchmark") -> str:
    """What a command says of options that it refuses, asked in this process: to start one takes seconds."""
    command: Command = import_module(f"flows.{flow}").COMMAND
    with pytest.raises(UserError) as refused:
        carry_out(command, *options)
    return str(refused.value)


def carry_out(command: Command, *options: str) -> Outcome:
    """What comes of a command in this process, not yet shown."""
    asked = parsed(command.app(), options)
    assert asked, "only help was asked for"
    given = {name: value for name, value in asked[1].items() if name not in {"quiet", "json"}}
    return command.run(given)


@contextmanager
def started(environment: dict[str, str], *options: str, flow: str = "benchmark") -> Iterator[subprocess.Popen[str]]:
    """A command in the background, as in a terminal of its own; killed at the end if it still runs.

    Standard error comes with its output.
    """
    with subprocess.Popen(
        command(*options, flow=flow),
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], object], seconds: float = 300.0, every: float = 0.02) -> None:
    """Wait for something that another process does. Raises: AssertionError: it did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)


def scripted(environment: dict[str, str], folder: Path, seconds: float = 60.0) -> dict[str, str]:
    """An environment with the models of tests/helpers/scripted.

    Args: folder: where they leave a file when they begin.
    """
    folder.mkdir(exist_ok=True)
    return environment | {
        "PYTHONPATH": str(ROOT / "tests" / "helpers" / "scripted"),
        "SCRIPTED_FOLDER": str(folder),
        "SCRIPTED_SECONDS": str(seconds),
    }


def in_training(folder: Path) -> psutil.Process:
    """The first process in which a scripted model is fitted, once it is. Args: folder: as for `scripted`."""
    until(lambda: any(folder.iterdir()))
    return psutil.Process(int(min(folder.iterdir(), key=lambda file: file.stat().st_mtime).name))


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what would choose a source, a warehouse or a server."""
    unwanted = {"MUSIC_SOURCE", "MUSIC_WAREHOUSE", "PREFECT_API_URL"}
    return {name: value for name, value in os.environ.items() if name not in unwanted} | more


@contextmanager
def dask_cluster(folder: Path, *options: str) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler, and its two workers of one thread each. Args: options: of a worker."""
    file, log = folder / "scheduler.json", folder / "worker.log"
    with ExitStack() as stack:
        address = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
        stack.enter_context(_dask(folder, "scheduler", *address, "--no-dashboard"))
        until(lambda: file.exists() and file.read_text().strip())
        scheduler = json.loads(file.read_text())["address"]
        options = ("--nthreads", "1", "--no-dashboard", "--local-directory", str(folder), *options)
        workers = [stack.enter_context(_dask(folder, "worker", scheduler, *options)) for _ in range(2)]
        until(lambda: log.read_text().count("Registered to") == 2)
        yield scheduler, workers


@contextmanager
def _dask(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler or a worker: it knows of no Prefect server and of no warehouse. Killed at the end."""
    own = clean_environment(PREFECT_HOME=str(folder / "prefect"), DASK_TEMPORARY_DIRECTORY=str(folder))
    command = [sys.executable, "-m", "dask", *arguments]
    with (
        (folder / f"{arguments[0]}.log").open("ab") as log,
        subprocess.Popen(command, env=own, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield process
        finally:
            process.kill()

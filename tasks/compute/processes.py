"""Runs each cell in a child process, so that a timeout, a crash or too little memory affects that cell alone.

Children are forked from a small server process (multiprocessing's forkserver). It imports the numerical libraries once,
after the thread counts of BLAS and OpenMP are set. Children never import Prefect, and they end when the process that
started the server ends.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, TypeVar

import psutil

from tasks.compat import fork_server, leave_fork_server
from tasks.errors import UserError

PRELOADED = [
    "tasks.training.train",
    "tasks.models.registry",
    "xgboost",
    "sklearn.ensemble",
    "sklearn.neural_network",
    "sklearn.svm",
    "skops.io",
]
STORES = ("s3fs", "gcsfs", "adlfs")  # imported for a remote warehouse, where children store results
LOOK_SECONDS = 0.1  # between two checks of a child's memory
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TBB_NUM_THREADS")
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}  # waiting threads leave the core to others
START_LOCK = threading.Lock()

Argument = TypeVar("Argument")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child process ended; `value` is what its function returned."""

    status: Literal["ok", "failed", "timed_out"]
    value: Any = None
    error: str | None = None


class Processes:
    """Runs functions in child processes; a context manager that kills every child at its end.

    Args: threads: of BLAS, OpenMP and TensorFlow in each child. timeout: seconds after which a child is killed.
        memory: MiB of resident memory above which a child is killed; None: the largest child is killed when all
        together use more than `usable`. usable: MiB, by default 90 % of the machine's memory. children: the set of
        running children, for several `Processes` that share the memory; by default this one has a set for itself.
    """

    def __init__(
        self,
        threads: int,
        timeout: float,
        memory: float | None = None,
        usable: float | None = None,
        children: set[Any] | None = None,
    ) -> None:
        if timeout <= 0:
            raise UserError("The time limit of a cell must be more than 0 seconds.")
        self.threads = threads
        self.timeout = timeout
        self.memory = memory
        self._usable = usable or usable_mib()
        self._children: set[Any] = set() if children is None else children
        self._closed = False

    def __enter__(self) -> Processes:
        self._context = start_server(self.threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with START_LOCK:  # afterwards every started child is in the set
            self._closed = True
        for child in list(self._children):
            child.kill()

    def run(
        self,
        function: Callable[[Argument], Any],
        argument: Argument,
        log: Path,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Outcome:
        """Calls `function(argument)` in a child process and waits for it. Its output goes to `log`.

        Temporary files of its libraries are written beside `log` and removed here, because a killed child removes none.

        Args: is_wanted: checked while waiting; the child is killed once it returns False.
        """
        receiver, sender = self._context.Pipe(duplex=False)
        child = self._context.Process(target=_child, args=(function, argument, sender, self.threads, log), daemon=True)
        with START_LOCK, _without_main_module():
            if self._closed:
                return Outcome("failed", error="the run was ended before this cell started")
            child.start()
            self._children.add(child)
        sender.close()
        try:
            return self._outcome(child, receiver, log, is_wanted)
        finally:
            self._children.discard(child)
            child.kill()
            child.join()
            receiver.close()
            log.unlink(missing_ok=True)
            shutil.rmtree(_scratch(log), ignore_errors=True)

    def _excess_memory(self, child: Any) -> str | None:
        """Returns why a child must end because of its memory use; None if it need not."""
        used = {one: _resident_mib(one.pid) for one in list(self._children)}
        own = used.get(child, 0.0)
        if self.memory is not None:
            limit = f"the limit of a cell ({self.memory:,.0f} MiB)"
            return f"ended at {own:,.0f} MiB of memory, above {limit}" if own > self.memory else None
        if sum(used.values()) <= self._usable or own < max(used.values()):
            return None
        return f"ended at {own:,.0f} MiB of memory, the most when all cells together passed {self._usable:,.0f} MiB"

    def _outcome(self, child: Any, receiver: Connection, log: Path, is_wanted: Callable[[], bool]) -> Outcome:
        deadline = time.monotonic() + self.timeout
        while not wait([receiver, child.sentinel], timeout=min(LOOK_SECONDS, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return Outcome("timed_out", error=f"ended after {self.timeout:g} s, the time limit of a cell")
            if reason := self._excess_memory(child):
                return Outcome("failed", error=reason)
            if not is_wanted():
                return Outcome("failed", error="nobody waits for it any more")
        try:
            if receiver.poll():
                return Outcome(*receiver.recv())
        except EOFError:
            pass
        wait([child.sentinel], timeout=10)
        with START_LOCK:  # starting a child also polls the others, and an exit code can be read only once
            code = child.exitcode
        return Outcome("failed", error=_cause_of_death(code, log))


def usable_mib() -> float:
    """Returns 90 % of the memory of this machine or its container, in MiB."""
    total = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # a container may have a limit; "max" means none
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return 0.9 * total / 2**20


def share_of_cores(at_once: int | None) -> tuple[int, int]:
    """Returns how many children run at once (by default one per core), and the threads of each."""
    cores = os.cpu_count() or 1
    if at_once is not None and at_once < 1:
        raise UserError("workers must be at least 1.")
    at_once = at_once or cores
    return at_once, max(1, cores // at_once)


def start_server(threads: int) -> Any:
    """Starts the fork server with the thread counts in its environment, and returns its context.

    The server imports libraries in the background. Started early, it is ready when the first child is needed.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    wanted = WAITING | dict.fromkeys(THREAD_VARIABLES, str(threads))
    saved = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        if context.get_start_method() == "forkserver":
            context.set_forkserver_preload([*PRELOADED, *(name for name in STORES if name in sys.modules)])
            with START_LOCK, _without_main_module():
                fork_server.ensure_running()
    finally:
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return context


@contextmanager
def _without_main_module() -> Any:
    """Hides `__main__` while a child starts; the child would import it again, and Prefect with it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _scratch(log: Path) -> Path:
    """Returns the folder of a child's temporary files, beside its log."""
    return log.with_name(f"{log.name}.scratch")


def _child(function: Callable[[Any], Any], argument: Any, sender: Connection, threads: int, log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent kills its children
    leave_fork_server()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    _scratch(log).mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(_scratch(log))
    message: tuple[str, Any, str | None]
    try:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(threads):
            message = ("ok", function(argument), None)
    except MemoryError as error:
        message = ("failed", None, f"MemoryError: out of memory {error}".strip())
    except Exception as error:  # noqa: BLE001 - any error of a model becomes the cell's error
        message = ("failed", None, f"{type(error).__name__}: {error}"[:2000])
    sender.send(message)
    sender.close()


def _resident_mib(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def _end_with_parent() -> None:
    """Exits when the fork server is gone; it ends with the process that started it."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _cause_of_death(exit_code: int | None, log: Path) -> str:
    printed = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    last = f"; its last words: {printed[-1][:300]}" if printed else ""
    if exit_code is not None and exit_code < 0:
        known = {number.value: f" ({number.name})" for number in signal.Signals}
        return f"its process was killed by signal {-exit_code}{known.get(-exit_code, '')}{last}"
    return f"its process ended with exit code {exit_code}{last}"

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import psutil
import pytest

from tasks.compute.processes import Processes
from tests.helpers.amounts import amount

pytestmark = pytest.mark.alone


def double(number: int) -> int:
    return 2 * number


def fail(message: str) -> None:
    raise ValueError(message)


def die(number: int) -> None:
    os.write(2, b"last words\n")
    os.kill(os.getpid(), number)


def leave(code: int) -> None:
    os._exit(code)


def sleep_in_c(seconds: float) -> None:
    """Holds the interpreter lock, as a fit in C may: nothing in Python could interrupt it."""
    import ctypes

    ctypes.PyDLL(None).sleep(int(seconds))


def leave_a_file(dies: bool) -> str:
    _, name = tempfile.mkstemp()
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def threads_and_modules(_: None) -> tuple[str | None, int, bool]:
    import numpy as np
    import threadpoolctl

    np.ones((10, 10)) @ np.ones((10, 10))
    most = max(pool["num_threads"] for pool in threadpoolctl.threadpool_info())
    return os.environ.get("OMP_NUM_THREADS"), most, "prefect" in sys.modules


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_the_value_comes_back(log) -> None:
    with Processes(threads=1, timeout=60) as processes:
        assert processes.run(double, 21, log).value == 42
    assert not log.exists()


def test_what_a_function_raises_is_its_error(log) -> None:
    with Processes(threads=1, timeout=60) as processes:
        outcome = processes.run(fail, "no such luck", log)
    assert (outcome.status, outcome.error) == ("failed", "ValueError: no such luck")


def test_a_killed_process_fails_alone(log) -> None:
    with Processes(threads=1, timeout=60) as processes:
        outcome = processes.run(die, signal.SIGKILL, log)
        assert outcome.status == "failed"
        assert outcome.error == "its process was killed by signal 9 (SIGKILL); its last words: last words"
        assert processes.run(double, 1, log).value == 2


def test_a_process_that_leaves_is_a_failure(log) -> None:
    with Processes(threads=1, timeout=60) as processes:
        assert processes.run(leave, 7, log).error == "its process ended with exit code 7"


def test_a_process_that_is_not_started_leaves_nothing(log) -> None:
    with Processes(1, 60) as processes:
        pass
    assert processes.run(double, 1, log).error == "the run was ended before this cell started"
    assert list(log.parent.iterdir()) == []


def test_temporary_files_go_with_their_process(log) -> None:
    with Processes(1, 60) as processes:
        name = processes.run(leave_a_file, False, log).value
        assert Path(name).is_relative_to(log.parent)
        assert processes.run(leave_a_file, True, log).status == "failed"
    assert list(log.parent.iterdir()) == []


@pytest.mark.slow
def test_the_time_limit_ends_even_c_code(log) -> None:
    with Processes(threads=1, timeout=1) as processes:
        started = time.monotonic()
        outcome = processes.run(sleep_in_c, 60, log)
    assert outcome.status == "timed_out"
    assert outcome.error == "ended after 1 s, the time limit of a cell"
    assert time.monotonic() - started < 30


def test_children_have_their_threads_and_no_prefect(log) -> None:
    with Processes(threads=1, timeout=60) as processes:
        assert processes.run(threads_and_modules, None, log).value == ("1", 1, False)


def test_leaving_the_block_ends_what_runs(log) -> None:
    outcomes = []
    with Processes(threads=1, timeout=60) as processes:
        waiting = threading.Thread(target=lambda: outcomes.append(processes.run(sleep_in_c, 60, log)))
        waiting.start()
        deadline = time.monotonic() + 30
        while not processes._children and time.monotonic() < deadline:
            time.sleep(0.05)
        children = {child.pid for child in processes._children}
    waiting.join(timeout=30)
    assert outcomes[0].status == "failed"
    assert children and not any(psutil.pid_exists(pid) for pid in children)
    with pytest.raises(AssertionError):
        assert processes.run(double, 1, log).status == "ok"


@pytest.mark.slow
def test_leaving_the_block_ends_what_is_just_being_started(log) -> None:
    outcomes, started = [], threading.Event()
    with pytest.MonkeyPatch.context() as patch, Processes(threads=1, timeout=20) as processes:
        child = processes._context.Process
        start = child.start

        def start_slowly(self: object) -> None:
            start(self)
            started.set()
            time.sleep(0.5)

        patch.setattr(child, "start", start_slowly)
        waiting = threading.Thread(target=lambda: outcomes.append(processes.run(sleep_in_c, 60, log)))
        waiting.start()
        assert started.wait(60)
    waiting.join()
    assert (outcomes[0].status, outcomes[0].error) == ("failed", "its process was killed by signal 9 (SIGKILL)")


@pytest.mark.slow
def test_an_exit_code_is_not_lost_to_a_child_that_starts_meanwhile(log, tmp_path, monkeypatch) -> None:
    """Starting one, multiprocessing reads the exit codes of all that have ended, each of which can be read once."""
    read = forkserver.read_signed
    with Processes(threads=1, timeout=60) as processes:
        another = threading.Thread(target=processes.run, args=(double, 1, tmp_path / "another"))

        def read_pid(handle: int) -> int:
            monkeypatch.setattr(forkserver, "read_signed", read_exit_code)
            return read(handle)

        def read_exit_code(handle: int) -> int:
            monkeypatch.setattr(forkserver, "read_signed", read)
            another.start()
            another.join(1.0)
            return read(handle)

        monkeypatch.setattr(forkserver, "read_signed", read_pid)
        outcome = processes.run(die, signal.SIGKILL, log)
        another.join()
    assert outcome.error == "its process was killed by signal 9 (SIGKILL); its last words: last words"


def hoard(mib: int) -> int:
    held = np.ones(mib * 2**17)
    time.sleep(amount(5.0, 20.0))
    return len(held)


def test_a_child_that_uses_too_much_memory_is_ended(log) -> None:
    with Processes(threads=1, timeout=60, memory=600) as processes:
        outcome = processes.run(hoard, 700, log)
    assert outcome.status == "failed"
    assert re.fullmatch(r"ended at [\d,]+ MiB of memory, above the limit of a cell \(600 MiB\)", outcome.error)


@pytest.mark.slow
def test_the_largest_child_is_ended_when_all_together_use_too_much(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tasks.compute.processes.usable_mib", lambda: 1300.0)
    with Processes(threads=1, timeout=60) as processes, ThreadPoolExecutor() as pool:
        small, large = (pool.submit(processes.run, hoard, mib, tmp_path / str(mib)) for mib in (300, 900))
        assert "the most when all cells together passed 1,300 MiB" in large.result().error
        assert small.result().status == "ok"

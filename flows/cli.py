"""Code that all commands share: signals, exit codes and messages. It does not import Prefect."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from cyclopts import App

from flows.options import Command, parsed
from tasks.errors import UserError, is_about_room, one_line

EVENT_SECONDS = 20.0


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end: SIGINT (Ctrl-C) or SIGTERM."""


def run_app(app: App, words: Sequence[str] | None = None) -> NoReturn:
    """Carries out the command on a command line and exits with its code.

    The code is 1 after an error that a user can correct, which is printed as one line, 130 after Ctrl-C and 143 after
    SIGTERM.

    Args: words: by default those that the process was started with.
    """
    _handle_signals()
    kept = "Nothing was begun."
    try:
        asked = parsed(app, sys.argv[1:] if words is None else words)
        kept = asked[0].kept if asked else kept
        code = _carry_out(*asked) if asked else 0
    except Exception as error:
        if not isinstance(error, _failures()):
            raise
        print(one_line(_with_advice(error)), file=sys.stderr)
        code = 1
    except Interrupted as interrupted:
        tell(f"Interrupted. {kept}")
        code = 128 + interrupted.args[0]
    with suppress(Interrupted):
        if _are_events_delivered():
            atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing's children end
        else:  # a regular exit would wait for minutes
            tell("Prefect's server did not take all that happened: its UI is not complete.")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader is gone
            stream.flush()
    os._exit(code)  # at a regular exit, libraries print long messages about objects that are still referred to


def _carry_out(command: Command, options: dict[str, Any]) -> int:
    """Carries out a command and shows its outcome as the options ask for. Returns the exit code."""
    if command.starts_server:
        from flows import temporary_server

        temporary_server.start()
    import polars as pl  # noqa: F401 - its import replaces the handler of SIGINT by one that lets waits go on

    _handle_signals()
    is_quiet, wants_json = options.pop("quiet"), options.pop("json", False)
    with ExitStack() as stack:
        if is_quiet:
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(redirect_stderr(nowhere))
            stack.enter_context(redirect_stdout(nowhere))
        elif wants_json:
            stack.enter_context(redirect_stdout(sys.stderr))
        outcome = command.run(options)
        outcome.show()
    if wants_json:
        print(json.dumps(outcome.facts, default=str))
    return outcome.code


def _failures() -> tuple[type[BaseException], ...]:
    """Returns the errors that are printed as one line. Libraries that are not imported have raised none."""
    known = (
        ("duckdb", "Error"),
        ("pyarrow", "ArrowException"),
        ("polars.exceptions", "PolarsError"),
    )
    raised = [getattr(sys.modules[module], name) for module, name in known if module in sys.modules]
    return (UserError, OSError, MemoryError, *raised)


def _is_damage(error: BaseException) -> bool:
    """Whether an error is a library's on a full disk, a damaged file or a limit."""
    import duckdb
    import pyarrow as pa

    damage = (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException, pa.ArrowException)
    return isinstance(error, damage) or type(error) is duckdb.Error  # such as Thrift's error on a damaged footer


def _with_advice(error: BaseException) -> str:
    """Returns the message of an error, with advice if the disk is full or a file cannot be read."""
    if is_about_room(error):
        return (
            f"There is no room to write: the disk is full, or a quota or a limit on files is reached ({error}). "
            "What is stored and published stays. Free some space, and run the same command again."
        )
    if not isinstance(error, UserError | OSError | MemoryError) and _is_damage(error):
        return f"{error}. A stored file may be damaged: python -m flows.upkeep --check names it."
    return str(error)


def tell(line: str) -> None:
    """Prints a line for the user on standard error; results go to standard output."""
    print(one_line(line), file=sys.stderr, flush=True)


def _handle_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def _are_events_delivered() -> bool:
    """Waits for Prefect's client, if it was used, to deliver queued states and logs. Returns whether it did."""
    if "prefect" not in sys.modules:
        return True
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    until = time.monotonic() + EVENT_SECONDS
    queues = (EventsWorker, APILogWorker)
    return not any(queue.drain_all(timeout=max(0.0, until - time.monotonic())).not_done for queue in queues)  # type: ignore[union-attr]

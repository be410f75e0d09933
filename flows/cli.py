"""Code that all commands share: parameters, signals, exit codes and messages. It does not import Prefect."""

from __future__ import annotations

import argparse
import atexit
import inspect
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import duckdb
import polars as pl
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from tasks.errors import UserError, is_about_room, one_line
from tasks.storage.urls import has_secrets

EVENT_SECONDS = 20.0
# Errors of libraries on a full disk, a damaged file or a limit.
DAMAGE = (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException, pa.ArrowException)
FAILURES = (UserError, OSError, MemoryError, duckdb.Error, pa.ArrowException, pl.exceptions.PolarsError)


def parameters(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the command line's options as parameters of a function or a flow.

    Prefect stores the parameters of a flow run, so a source URL with secrets is passed by $MUSIC_SOURCE instead.

    Raises: UserError: the type of a parameter refuses an option, or it is not text that Prefect can store.
    """
    options = vars(parser.parse_args())
    shown = {action.dest: (action.option_strings or [str(action.metavar)])[-1] for action in parser._actions}  # noqa: SLF001
    for name, value in options.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.encode(errors="ignore") != os.fsencode(text):
                raise UserError(
                    f"{shown[name]} {text}: is not text in UTF-8. Give the file, or a link to it, another name."
                )
    if options.get("source") and has_secrets(options["source"]):
        os.environ["MUSIC_SOURCE"] = options["source"]
        options["source"] = None
    for name, parameter in inspect.signature(getattr(function, "fn", function), eval_str=True).parameters.items():
        try:
            TypeAdapter(parameter.annotation).validate_python(options[name])
        except ValidationError as error:
            raise UserError(f"{shown[name]}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    return options


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end: SIGINT (Ctrl-C) or SIGTERM."""


def run_command(command: Callable[[], int], kept: str) -> NoReturn:
    """Calls `command` and exits with its code: 1 and one line on a user error, 130 on Ctrl-C, 143 on SIGTERM.

    Args: kept: a sentence for an interrupted command on what it keeps.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    has_failed = False
    try:
        code = command()
    except FAILURES as error:
        print(one_line(_with_advice(error)), file=sys.stderr)
        code, has_failed = 1, True
    except Interrupted as interrupted:
        tell(f"Interrupted. {kept}")
        code = 128 + interrupted.args[0]
    with suppress(Interrupted):
        if _are_events_delivered():
            if not has_failed:
                sys.exit(code)
            atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing's children end
        else:  # a regular exit would wait for minutes
            tell("Prefect's server did not take all that happened: its UI is not complete.")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader is gone
            stream.flush()
    os._exit(code)  # at a regular exit, libraries print long messages about objects that the failure still refers to


def _with_advice(error: BaseException) -> str:
    """Returns the message of an error, with advice if the disk is full or a file cannot be read."""
    if is_about_room(error):
        return (
            f"There is no room to write: the disk is full, or a quota or a limit on files is reached ({error}). "
            "What is stored and published stays. Free some space, and run the same command again."
        )
    if isinstance(error, DAMAGE) or type(error) is duckdb.Error:  # such as Thrift's error on a damaged footer
        return f"{error}. A stored file may be damaged: python -m flows.upkeep --check names it."
    return str(error)


def tell(line: str) -> None:
    """Prints a line for the user on standard error; results go to standard output."""
    print(one_line(line), file=sys.stderr, flush=True)


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

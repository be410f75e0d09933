"""What every command shares: options, signals and exit codes. Nothing here imports Prefect."""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import duckdb
import polars as pl
import pyarrow as pa
from pydantic import ByteSize, TypeAdapter, ValidationError

from tasks.errors import UserError, is_about_room, one_line
from tasks.ingest.columns import MIN_FEATURES
from tasks.ingest.sources import MAX_BYTES
from tasks.specs import PROTOCOLS
from tasks.storage.urls import has_secrets

if TYPE_CHECKING:  # commands that only read do without it
    from prefect import Flow

EVENT_SECONDS = 20.0
# What a full disk, a damaged file or a limit make libraries raise, beside our own.
DAMAGE = (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException, pa.ArrowException)
FAILURES = (UserError, OSError, MemoryError, duckdb.Error, pa.ArrowException, pl.exceptions.PolarsError)


class Parser(argparse.ArgumentParser):
    """Exits 1, with one line, on a wrong option, as on any other user error."""

    def error(self, message: str) -> NoReturn:
        """Print the reason and leave."""
        self.exit(1, f"{self.prog}: {message}. See --help.\n")


def source_parser(
    prog: str,
    description: str | None,
    protocol: str = "published",
    several: str = ", one that measures a leak (see docs/words.md), probes for those, or all",
) -> Parser:
    """A parser with the options that say what to read, how, and where to keep it."""
    parser = Parser(prog=f"python -m {prog}", description=description)
    add = parser.add_argument
    add(
        "--source",
        metavar="PATH_OR_URL|sample[:ROWS]|snapshot:ID",
        help="CSV, gzipped CSV or Parquet, the built-in generated sample, or tracks that were read before "
        "(snapshot:latest: the published ones); by default $MUSIC_SOURCE, else sample",
    )
    add(
        "--columns",
        default="",
        metavar="OURS=THEIRS,...",
        help="the file's own column names, or a TOML file of such pairs",
    )
    add_units(parser)
    add("--protocol", default=protocol, help=f"{', '.join(PROTOCOLS)}{several}; by default {protocol}")
    add_warehouse(parser)
    add(
        "--max-reject-share",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="stop if more of the rows have bad values; by default 0.05",
    )
    add("--min-genre-rows", type=int, default=20, metavar="N", help="drop genres with fewer valid rows; by default 20")
    add_max_source_bytes(parser)
    add(
        "--artist-separators",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="what separates several artists in one name, such as ', ' ' & ' ' x ' /; lists, ';' and feat. always do",
    )
    return parser


def add_units(parser: argparse.ArgumentParser) -> None:
    """The option that says in which units the file's columns are."""
    parser.add_argument(
        "--units",
        default="",
        metavar="OURS=UNIT,...",
        help="convert columns that are in another unit: percent, seconds, minutes, negated, ... (docs/commands.md)",
    )


def add_values(parser: argparse.ArgumentParser) -> None:
    """The options that say what values a file of new tracks has."""
    add_units(parser)
    parser.add_argument(
        "--min-features",
        type=int,
        default=MIN_FEATURES,
        metavar="N",
        help=f"refuse a file with fewer of the 12 audio features; by default {MIN_FEATURES}",
    )


def add_warehouse(parser: argparse.ArgumentParser) -> None:
    """The option that says where data is kept."""
    text = "where data is kept, a folder or a URL (s3://bucket/prefix); by default $MUSIC_WAREHOUSE, else ./warehouse"
    parser.add_argument("--warehouse", metavar="DIR_OR_URL", help=text)


def add_max_source_bytes(parser: argparse.ArgumentParser) -> None:
    """The option that bounds what is read."""
    text = f"refuse a source that is larger, as it is or unpacked; by default {MAX_BYTES // 10**9}GB"
    parser.add_argument("--max-source-bytes", type=size, default=MAX_BYTES, metavar="SIZE", help=text)


def add_runner(parser: argparse.ArgumentParser) -> None:
    """The options that say where cells are trained."""
    add = parser.add_argument
    add("--workers", type=int, metavar="N", help="cells trained at once; by default one per core")
    add(
        "--runner",
        choices=["local", "dask"],
        default="local",
        help="train here, or on a Dask cluster; by default local",
    )
    add(
        "--spread",
        action="store_true",
        help="fit XGBoost to more than a million rows on all workers of the cluster together",
    )
    add("--dask-address", metavar="tcp://HOST:PORT", help="the cluster's scheduler; by default a cluster of its own")


def add_track(parser: argparse.ArgumentParser) -> None:
    """The options that choose one track."""
    text = "CSV, gzipped CSV or Parquet by path or URL; left out: one of the warehouse's own tracks"
    parser.add_argument("tracks", nargs="?", metavar="TRACKS", help=text)
    text = (
        "which track, by its instance_id or, where there is none, its row number; for a file of one it may be left out"
    )
    parser.add_argument("--track-id", type=int, metavar="ID", help=text)
    add_max_source_bytes(parser)


def parameters(parser: argparse.ArgumentParser, flow: Flow[..., Any]) -> dict[str, Any]:
    """The command line's options, as parameters of its flow.

    Prefect keeps a run's parameters, so a source URL that holds secrets goes by the environment instead.

    Raises: UserError: the flow's types refuse an option, or it is no text that Prefect could keep.
    """
    from prefect.exceptions import ParameterTypeError

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


def out_file(text: str) -> Path:
    """The file that --out names. Raises: UserError: nothing can be written there."""
    path = Path(text).expanduser().absolute()
    reason = None
    if path.is_dir():
        reason = "it is a folder"
    elif not path.parent.is_dir():
        reason = f"there is no folder {path.parent}"
    elif not os.access(path.parent, os.W_OK):
        reason = f"the folder {path.parent} is not writable"
    if reason:
        raise UserError(f"--out {path}: cannot be written there, {reason}. Choose another file.")
    return path


def names(text: str) -> list[str]:
    """A comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def size(text: str) -> int:
    """A number of bytes, such as 20GB, 500MiB or 1000000; at least one."""
    try:
        bytes_ = int(TypeAdapter(ByteSize).validate_python(text))
    except (ValidationError, OverflowError):
        bytes_ = 0
    if bytes_ < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no size such as 20GB, 500MiB or 1000000")
    return bytes_


def integers(text: str) -> list[int]:
    """A comma-separated list of whole numbers, one at least."""
    return [int(part) for part in names(text) or [text]]


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end: SIGINT (Ctrl-C) or SIGTERM."""


def run_command(
    command: Callable[[], int], kept: str = "Finished cells are kept: the same command goes on from there."
) -> NoReturn:
    """Call `command` and leave with its exit code: 1 and one line on a user error, 130 on Ctrl-C, 143 on SIGTERM.

    Args: kept: what an interrupted command leaves.
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
        else:  # a regular exit would wait for it, for minutes
            tell("Prefect's server did not take all that happened: its UI is not complete.")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader has gone
            stream.flush()
    os._exit(code)  # taking the interpreter apart has libraries complain, at length, of what a failure still holds


def _with_advice(error: BaseException) -> str:
    """What a library says of a full disk or a file that it cannot read, and what to do."""
    if is_about_room(error):
        return (
            f"There is no room to write: the disk is full, or a quota or a limit on files is reached ({error}). "
            "What is stored and published stays. Free some space, and run the same command again."
        )
    if isinstance(error, DAMAGE) or type(error) is duckdb.Error:  # as what Thrift says of a damaged footer
        return f"{error}. A stored file may be damaged: python -m flows.upkeep --check names it."
    return str(error)


def tell(line: str) -> None:
    """A line for a person who is waiting; results go to standard output instead."""
    print(one_line(line), file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def _are_events_delivered() -> bool:
    """Give Prefect's client, where it was used, some time to deliver the states and logs that it has queued."""
    if "prefect" not in sys.modules:
        return True
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    until = time.monotonic() + EVENT_SECONDS
    queues = (EventsWorker, APILogWorker)
    return not any(queue.drain_all(timeout=max(0.0, until - time.monotonic())).not_done for queue in queues)  # type: ignore[union-attr]

"""What the commands share: the options about the source, the exit codes, and Prefect's temporary server."""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, ParamSpec, TypeVar

import duckdb
import httpx
import psutil
from prefect import Flow
from prefect.events.worker import EventsWorker
from prefect.exceptions import ParameterTypeError
from prefect.logging.handlers import APILogWorker

from tasks.addresses import has_secrets, public_name
from tasks.columns import parse_mapping
from tasks.errors import ProtocolError, UserError, one_line
from tasks.features import build_features, rare_genres
from tasks.increment import left_out
from tasks.ingest import Append, ingest
from tasks.registry import BuiltTable
from tasks.snapshots import Statistics
from tasks.specs import PROTOCOLS, protocols_of
from tasks.warehouse import Warehouse

EVENT_SECONDS = 20.0
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
SOURCE_OPTIONS = ("source", "columns", "protocol", "warehouse", "max_reject_share", "min_genre_rows")


class Parser(argparse.ArgumentParser):
    """Exits 1, with one line, on a wrong option, as on any other user error."""

    def error(self, message: str) -> NoReturn:
        """Print the reason and leave."""
        self.exit(1, f"{self.prog}: {message}. See --help.\n")


def source_parser(
    prog: str,
    description: str | None,
    protocol: str = "published",
    several: str = ", one that measures a leak (see README.md), probes for those, or all",
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
    return parser


def add_warehouse(parser: argparse.ArgumentParser) -> None:
    """The option that says where data is kept."""
    text = "where data is kept, a folder or a URL (s3://bucket/prefix); by default $MUSIC_WAREHOUSE, else ./warehouse"
    parser.add_argument("--warehouse", metavar="DIR_OR_URL", help=text)


def add_track(parser: argparse.ArgumentParser) -> None:
    """The options that choose one track."""
    text = "CSV, gzipped CSV or Parquet by path or URL; left out: one of the warehouse's own tracks"
    parser.add_argument("tracks", nargs="?", metavar="TRACKS", help=text)
    text = (
        "which track, by its instance_id or, where there is none, its row number; for a file of one it may be left out"
    )
    parser.add_argument("--track-id", type=int, metavar="ID", help=text)


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


def names(text: str) -> list[str]:
    """A comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


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
    try:
        code = command()
    except (UserError, OSError, duckdb.Error) as error:
        print(one_line(error), file=sys.stderr)
        code = 1
    except Interrupted as interrupted:
        tell(f"Interrupted. {kept}")
        code = 128 + interrupted.args[0]
    sys.stdout.flush()
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


def prepare(
    source: str | None,
    columns: str,
    protocol: str,
    warehouse: str | None,
    max_reject_share: float,
    min_genre_rows: int,
    append_to: str | None = None,
    statistics: Statistics = "relearned",
) -> None:
    """Ingest and build features ahead of the flow, which then finds them done; bad input is told before any waiting.

    A source elsewhere is left to the flow, so that it is fetched once.
    """
    mapping = parse_mapping(columns)
    protocols = protocols_of(protocol)
    home = Warehouse.at(warehouse)
    named = default_source(source)
    append = appending(append_to, statistics)
    if "://" not in named:
        with home.in_use(_tell_of_upkeep):
            known = {file.stem for file in home.files("raw", "snapshots")}
            snapshot = ingest(named, mapping, max_reject_share, home, append)
            notes = {"generated data": snapshot.is_generated, "read before": snapshot.snapshot in known}
            tell(snapshot.summary + "".join(f" [{note}]" for note, holds in notes.items() if holds))
            tables = build_each(protocols, lambda name: build_features(snapshot, name, min_genre_rows, home))
            if dropped := rare_genres(tables, home):
                tell(dropped)
            for line in left_out(tables, home):
                tell(line)


def holding_warehouse(body: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Of a flow with a parameter `warehouse`: while it runs, upkeep removes nothing that it may have found there."""
    signature = inspect.signature(body, eval_str=True)  # Prefect would look the names of types up in this module

    @functools.wraps(body)
    def held(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        home = Warehouse.at(signature.bind(*args, **kwargs).arguments.get("warehouse"))
        with home.in_use(_tell_of_upkeep):
            return body(*args, **kwargs)

    held.__signature__ = signature  # type: ignore[attr-defined]
    return held


def _tell_of_upkeep() -> None:
    tell("Waiting for upkeep of another machine to end ...")


def build_each(
    protocols: list[str], build: Callable[[str], list[BuiltTable]], *, silently: bool = False
) -> list[BuiltTable]:
    """The tables of all protocols. One that the data does not allow is told and left out.

    Raises: ProtocolError: the data allows none of them.
    """
    tables: list[BuiltTable] = []
    refused: list[ProtocolError] = []
    for name in protocols:
        try:
            tables += build(name)
        except ProtocolError as error:
            refused.append(error)
    if not tables:
        raise refused[0]
    for reason in [] if silently else refused:
        tell(str(reason))
    return tables


def tell(line: str) -> None:
    """A line for a person who is waiting; results go to standard output instead."""
    print(one_line(line), file=sys.stderr, flush=True)


def _check_server(url: str) -> None:
    try:
        httpx.get(f"{url}/health", timeout=10.0).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(
            f"PREFECT_API_URL is {public_name(url)}, where no Prefect server answers ({type(error).__name__}). "
            "Start one (`make server`), or unset PREFECT_API_URL to use a temporary one."
        ) from error


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


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


def appending(append_to: str | None, statistics: Statistics) -> Append | None:
    """What the source is appended to, if to anything. Raises: UserError: nothing, of which statistics would be kept."""
    if append_to is None and statistics == "kept":
        raise UserError("--statistics kept: takes --append-to, the snapshot whose statistics are kept.")
    return Append(append_to, statistics) if append_to else None


def default_source(source: str | None) -> str:
    """What is read when the user names nothing."""
    return source or os.environ.get("MUSIC_SOURCE") or "sample"

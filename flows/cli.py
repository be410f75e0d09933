"""What every command shares: options, signals and exit codes. Nothing here needs Prefect."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import duckdb

from tasks.errors import UserError, one_line
from tasks.specs import PROTOCOLS

FINISHED = "Finished cells are kept: the same command goes on from there."


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
    add(
        "--artist-separators",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="what separates several artists in one name, such as ', ' ' & ' ' x ' /; lists, ';' and feat. always do",
    )
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


def integers(text: str) -> list[int]:
    """A comma-separated list of whole numbers, one at least."""
    return [int(part) for part in names(text) or [text]]


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end: SIGINT (Ctrl-C) or SIGTERM."""


def run_command(command: Callable[[], int], kept: str = FINISHED) -> NoReturn:
    """Call `command` and leave with its exit code. Args: as `exit_code`."""
    sys.exit(exit_code(command, kept))


def exit_code(command: Callable[[], int], kept: str) -> int:
    """Of `command`, when it was called: 1 and one line on a user error, 130 on Ctrl-C, 143 on SIGTERM.

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
    return code


def tell(line: str) -> None:
    """A line for a person who is waiting; results go to standard output instead."""
    print(one_line(line), file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)

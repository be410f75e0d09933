"""Ask the published results one question in SQL: read only, and no file outside the warehouse can be read."""

from __future__ import annotations

import os
import signal
import sys

from flows import cli
from tasks.results.query import FORMATS, answer
from tasks.storage.warehouse import Warehouse


def parser() -> cli.Parser:
    """The command's options."""
    command = cli.Parser(prog="python -m flows.query", description=__doc__)
    add = command.add_argument
    add("sql", help='one SELECT, such as "from results.leaderboard limit 5"')
    add("--format", choices=list(FORMATS), default="table", help="table (default), csv or json")
    cli.add_warehouse(command)
    return command


def main() -> int:
    """The command `python -m flows.query`."""
    options = parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # at once: there is nothing to record, and DuckDB computes on otherwise
    try:
        answer(options.sql, options.format, Warehouse.to_read(options.warehouse))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    cli.run_command(main)

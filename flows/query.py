"""Ask one question in SQL about the published results: read only, and only files of the warehouse.

Without a question, list the published tables and views.
"""

from __future__ import annotations

import os
import signal
import sys

from flows import cli
from flows.options import Parser, add_warehouse
from tasks.results.query import FORMATS, answer, list_tables
from tasks.storage.warehouse import Warehouse

EXAMPLE = "from results.leaderboard limit 5"


def parser() -> Parser:
    """Returns the parser of the command's options."""
    command = Parser(prog="python -m flows.query", description=__doc__)
    add = command.add_argument
    text = f'one SELECT, such as "{EXAMPLE}"; without it, the published tables and views are listed'
    add("sql", nargs="?", help=text)
    add("--format", choices=list(FORMATS), default="table", help="table (default), csv or json")
    add_warehouse(command)
    return command


def main() -> int:
    """Runs `python -m flows.query`. Returns the exit code."""
    options = parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # exit at once: there is nothing to record, and DuckDB would compute on
    try:
        warehouse = Warehouse.to_read(options.warehouse)
        if options.sql is None:
            list_tables(options.format, warehouse)
            sys.stdout.flush()
            asked = warehouse.client
            cli.tell(f'Columns: {asked} "describe results.leaderboard"; a question: {asked} "{EXAMPLE}"')
        else:
            answer(options.sql, options.format, warehouse)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    cli.run_command(main, kept="Nothing was written.")
